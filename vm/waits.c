/*
 * waits.c: waiting for several objects at once (see waits.h).
 *
 * A watch has one waiter in the ring of each object.  Told, a waiter only notes that its
 * object is ready and wakes whoever waits on the watch; it takes nothing, and where a ring
 * serves one waiter at a time it hands the notification on.
 */
#include "waits.h"

#include <string.h>

#include "greenlet.h"
#include "protect.h"

struct watch;

struct watched {
  struct waiter waiter;
  struct watch *watch;
  struct link *ring;               /* the object's; handed on to if `passes` */
  const struct greenlet *greenlet; /* the object, if it is one */
  int index;                       /* of the object in the list, from 1 */
  bool passes;
};

struct watch {
  struct link consumer; /* ring: who waits on the watch */
  int count;            /* objects */
  int found, taken;     /* how many are ready, and how many of them iwait has given */
  int wanted;           /* how many complete the wait */
  double deadline;      /* of an iwait */
  bool in_order;        /* they have become ready in the order of the list */
  bool each;            /* the consumer is woken for each */
  bool raise_errors;    /* and for a failed greenlet */
  int *order;           /* indices in order of readiness */
  struct watched entries[];
};

enum { WATCH_OBJECTS = 1 };

static const char watch_name[] = "moonlet.watch";

/* ---- noting what is ready ---- */

static void note(struct watched *entry) {
  struct watch *watch = entry->watch;
  watch->order[watch->found++] = entry->index;
  watch->in_order &= entry->index == watch->found;
  bool failure = watch->raise_errors && entry->greenlet && entry->greenlet->failed;
  if (watch->each || failure || watch->found >= watch->wanted)
    wait_notify(&watch->consumer);
}

static void notify(struct waiter *waiter) {
  struct watched *entry = container_of(waiter, struct watched, waiter);
  list_remove(&waiter->link);
  note(entry);
  if (entry->passes)
    wait_notify(entry->ring);
}

static void unregister(struct watch *watch) {
  for (int i = 0; i < watch->count; i++)
    if (list_linked(&watch->entries[i].waiter.link))
      list_remove(&watch->entries[i].waiter.link);
}

static int l_unregister(lua_State *L) {
  unregister(lua_touserdata(L, 1));
  return 0;
}

/* The object at -1 joins the watch, or counts as ready at once. */
static void add(lua_State *L, struct hub *hub, struct watch *watch, int index) {
  struct greenlet *greenlet = class_test(L, -1, &greenlet_kind);
  const struct class_kind *kind = greenlet ? &greenlet_kind
                                  : lua_type(L, -1) == LUA_TUSERDATA
                                      ? class_kind_of(L, lua_gettop(L))
                                      : NULL;
  while (kind && !kind->watch)
    kind = kind->base;
  if (!kind)
    luaL_argerror(L, 1,
                  lua_pushfstring(L, "element %d is a %s, which cannot be waited for", index,
                                  luaL_typename(L, -1)));
  struct watched *entry = &watch->entries[index - 1];
  *entry = (struct watched){
      .waiter = {.notify = notify}, .watch = watch, .index = index, .passes = kind->watch_passes};
  entry->greenlet = greenlet;
  entry->ring = kind->watch(greenlet ? greenlet : lua_touserdata(L, -1));
  watch->count = index;
  if (entry->ring)
    waiter_join(hub, entry->ring, &entry->waiter);
  else
    note(entry);
}

static int list_length(lua_State *L, int arg) {
  lua_Integer length = luaL_len(L, arg);
  luaL_argcheck(L, length >= 0 && length < 1 << 26, arg, "impossible length");
  return (int)length;
}

/* Replaces the list at `arg` by a watch over its objects. */
static struct watch *watch_list(lua_State *L, int arg) {
  luaL_checktype(L, arg, LUA_TTABLE);
  struct hub *hub = hub_of(L);
  int count = list_length(L, arg);
  size_t size = sizeof(struct watch) + (size_t)count * sizeof(struct watched);
  struct watch *watch = lua_newuserdatauv(L, size + (size_t)count * sizeof(int), 1);
  memset(watch, 0, sizeof *watch);
  list_init(&watch->consumer);
  watch->order = (int *)((char *)watch + size);
  watch->wanted = count;
  watch->in_order = true;
  if (luaL_newmetatable(L, watch_name)) {
    lua_pushcfunction(L, l_unregister);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_unregister);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  lua_createtable(L, count, 0);
  for (int i = 1; i <= count; i++) {
    lua_geti(L, arg, i);
    add(L, hub, watch, i);
    lua_rawseti(L, -2, i);
  }
  lua_setiuservalue(L, -2, WATCH_OBJECTS);
  lua_replace(L, arg);
  return watch;
}

/* ---- joinall, wait ---- */

/* The first failure in time, of those found since it was looked for last, is raised. */
static void raise_failure(lua_State *L, struct watch *watch) {
  lua_getiuservalue(L, 1, WATCH_OBJECTS);
  for (; watch->taken < watch->found; watch->taken++) {
    lua_rawgeti(L, -1, watch->order[watch->taken]);
    const struct greenlet *g = class_test(L, -1, &greenlet_kind);
    if (g && g->failed) {
      unregister(watch);
      lua_getfield(L, -1, "traceback");
      lua_getfield(L, -2, "exception");
      if (!lua_isnil(L, -2)) {
        lua_pushvalue(L, -2);
        protect_remember(L, -2);
      }
      protect_rethrow(L);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int all_step(lua_State *L, bool timed_out) {
  struct watch *watch = lua_touserdata(L, 1);
  if (watch->raise_errors)
    raise_failure(L, watch);
  if (watch->found < watch->wanted && !timed_out)
    return WAIT_AGAIN;
  unregister(watch);
  int found = watch->found < watch->wanted ? watch->found : watch->wanted;
  if (found == watch->count && watch->in_order)
    return lua_getiuservalue(L, 1, WATCH_OBJECTS), 1;
  lua_createtable(L, found, 0);
  lua_getiuservalue(L, 1, WATCH_OBJECTS);
  for (int i = 1; i <= found; i++) {
    lua_rawgeti(L, -1, watch->order[i - 1]);
    lua_rawseti(L, -3, i);
  }
  lua_pop(L, 1);
  return 1;
}

static void leave(struct link *ring) { unregister(container_of(ring, struct watch, consumer)); }

/***
 * moonlet.joinall(list [, timeout [, raise_error]]): waits until all greenlets have ended.
 * @param list Greenlet[]
 * @param timeout? number|Timeout  seconds
 * @param raise_error? boolean  raise the first failure at once; the others run on
 * @return Greenlet[] # those that have ended, in the order in which they did
 * @raise the error of the first that fails, if asked to
 * Source: gevent.joinall.
 */
static int l_joinall(lua_State *L) {
  static const struct wait_kind kind = {.name = "joinall", .step = all_step, .leave = leave};
  lua_settop(L, 3);
  wait_limit(L, 2);
  struct watch *watch = watch_list(L, 1);
  watch->raise_errors = lua_toboolean(L, 3);
  return wait_for(L, &watch->consumer, 2, &kind);
}

static int drained_step(lua_State *L, bool timed_out) {
  lua_pushboolean(L, !timed_out);
  return 1;
}

/* wait() without objects. */
static int wait_for_all_others(lua_State *L) {
  static const struct wait_kind kind = {.name = "wait", .step = drained_step};
  struct hub *hub = hub_of(L);
  if (hub->current != hub->main)
    return luaL_error(L, "only the main greenlet can wait for all others");
  return wait_in(L, &hub->drained, wait_limit(L, 2), &kind);
}

/* The number of objects to wait for, from argument 3. */
static int wanted(lua_State *L, const struct watch *watch) {
  lua_Integer count = luaL_optinteger(L, 3, watch->count);
  return count < 0 ? 0 : count < watch->count ? (int)count : watch->count;
}

/***
 * moonlet.wait([objects [, timeout [, count]]]): waits until all, or `count`, are ready.
 * Takes nothing from them: an item stays in its queue.  Without objects, in main only: until
 * nothing keeps the loop alive.
 * @param objects? any[]  greenlets, events, results, semaphores, queues
 * @param timeout? number|Timeout  seconds
 * @param count? integer
 * @return any[]|boolean # those ready, in the order in which they became so; without objects
 *   true, or false at the timeout
 * Source: gevent.wait.
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {.name = "wait", .step = all_step, .leave = leave};
  lua_settop(L, 3);
  if (lua_isnil(L, 1))
    return wait_for_all_others(L);
  wait_limit(L, 2);
  luaL_optinteger(L, 3, 0);
  struct watch *watch = watch_list(L, 1);
  watch->wanted = wanted(L, watch);
  return wait_for(L, &watch->consumer, 2, &kind);
}

/* ---- iwait ---- */

static int each_step(lua_State *L, bool timed_out) {
  struct watch *watch = lua_touserdata(L, 1);
  if (watch->taken < watch->found) {
    lua_getiuservalue(L, 1, WATCH_OBJECTS);
    lua_rawgeti(L, -1, watch->order[watch->taken++]);
    if (watch->taken == watch->wanted)
      wait_notify_all(&watch->consumer);
    return 1;
  }
  if (!timed_out && watch->taken < watch->wanted)
    return WAIT_AGAIN;
  unregister(watch);
  return 0;
}

static int l_next(lua_State *L) {
  static const struct wait_kind kind = {.name = "iwait", .step = each_step, .passes_on = true};
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  struct watch *watch = lua_touserdata(L, 1);
  if (watch->taken >= watch->wanted) {
    unregister(watch);
    return 0;
  }
  if (watch->taken < watch->found)
    return each_step(L, false);
  double limit = watch->deadline == NO_LIMIT ? NO_LIMIT : watch->deadline - hub_now(hub_of(L));
  return wait_in(L, &watch->consumer, limit, &kind);
}

/***
 * moonlet.iwait(objects [, timeout [, count]]): iterates over objects as they become ready.
 * @param objects any[]  as for wait()
 * @param timeout? number|Timeout  seconds, for the whole loop
 * @param count? integer  stop after so many
 * @return fun():any
 * Source: gevent.iwait.
 * Differs: left early outside `with`, leaves links at the objects | leaves nothing behind
 */
static int l_iwait(lua_State *L) {
  lua_settop(L, 3);
  double limit = wait_limit(L, 2);
  luaL_optinteger(L, 3, 0);
  struct watch *watch = watch_list(L, 1);
  watch->each = true;
  watch->wanted = wanted(L, watch);
  watch->deadline = limit == NO_LIMIT ? NO_LIMIT : hub_now(hub_of(L)) + limit;
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, l_next, 1);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, 1);
  return 4;
}

/* ---- killall ---- */

static int killed_step(lua_State *L, bool timed_out) {
  struct watch *watch = lua_touserdata(L, 1);
  if (watch->found < watch->wanted && !timed_out)
    return WAIT_AGAIN;
  unregister(watch);
  if (watch->found == watch->wanted)
    return lua_pushboolean(L, 1), 1;
  lua_pushnil(L);
  lua_pushliteral(L, "timeout");
  return 2;
}

/***
 * moonlet.killall(list [, err [, timeout]]): raises an error in all greenlets, then waits until
 * they are dead.
 * @param list Greenlet[]
 * @param err? any  a GreenletExit if nothing is said
 * @param timeout? number|Timeout  seconds
 * @return boolean? # true, or nil at the timeout
 * @return string? # "timeout"
 * Source: gevent.killall.
 * Differs: raises a Timeout when the time is up | returns nil, "timeout"
 */
static int l_killall(lua_State *L) {
  static const struct wait_kind kind = {.name = "killall", .step = killed_step, .leave = leave};
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 3);
  wait_limit(L, 3);
  int count = list_length(L, 1);
  for (int i = 1; i <= count; i++) {
    lua_geti(L, 1, i);
    if (!class_test(L, -1, &greenlet_kind))
      return luaL_argerror(L, 1, lua_pushfstring(L, "element %d is no Greenlet", i));
    lua_pop(L, 1);
  }
  for (int i = 1; i <= count; i++) {
    lua_geti(L, 1, i);
    lua_pushvalue(L, 2);
    greenlet_kill(L);
  }
  struct watch *watch = watch_list(L, 1);
  return wait_for(L, &watch->consumer, 3, &kind);
}

const luaL_Reg waits_functions[] = {{"joinall", l_joinall},
                                    {"wait", l_wait},
                                    {"iwait", l_iwait},
                                    {"killall", l_killall},
                                    {NULL, NULL}};
