/*
 * links.c: functions called when a greenlet ends.
 *
 * A link is a waiter in the ring of those who wait for the end.  Told, it starts a
 * greenlet that runs the function, so that the function may block.  A raw link has the
 * hub call the function in its turn: cheaper, but it must not block.
 */
#include "greenlet.h"
#include "report.h"

enum mode { ANY, VALUE, EXCEPTION, RAW };

struct greenlet_link {
  struct waiter waiter;
  struct runnable call; /* linked: a raw link whose turn will come */
  struct greenlet *target, *runner;
  int slot; /* anchors a raw link until then */
  enum mode mode;
};

enum { LINK_FUNCTION = 1, LINK_RUNNER, LINK_TARGET = LINK_RUNNER };

static bool wants(const struct greenlet_link *link) {
  return link->mode == ANY || link->mode == RAW ||
         link->target->failed == (link->mode == EXCEPTION);
}

/* On the hub's thread: calls a raw link's function.  Argument: the link. */
static int call_raw(lua_State *L) {
  lua_getiuservalue(L, 1, LINK_FUNCTION);
  lua_getiuservalue(L, 1, LINK_TARGET);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    lua_getiuservalue(L, 1, LINK_TARGET);
    lua_insert(L, -2);
    lua_pushliteral(L, "(raised by a function linked with rawlink)");
    report_print(L);
  }
  return 0;
}

static struct greenlet *run_raw(struct hub *hub, struct runnable *self) {
  struct greenlet_link *link = container_of(self, struct greenlet_link, call);
  lua_State *L = hub->L;
  lua_pushcfunction(L, call_raw);
  hub_push_anchored(L, hub, link->slot);
  hub_release(hub, link->slot);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK)
    lua_pop(L, 1);
  return NULL;
}

/* Lets the link's function have its turn.  The link is at `index`, the target at `target`. */
static void schedule(lua_State *L, struct greenlet_link *link, int index, int target) {
  struct hub *hub = link->target->hub;
  if (link->mode == RAW) {
    lua_pushvalue(L, target);
    lua_setiuservalue(L, index, LINK_TARGET);
    lua_pushvalue(L, index);
    link->slot = hub_anchor(L, hub);
    link->call.run = run_raw;
    hub_push(hub, &link->call);
  } else {
    lua_getiuservalue(L, index, LINK_FUNCTION);
    lua_pushvalue(L, target);
    link->runner = greenlet_spawn(L, 1);
    lua_setiuservalue(L, index, LINK_RUNNER);
  }
}

/* On the hub's thread.  Argument: the link (light), found in its target's list. */
static int schedule_protected(lua_State *L) {
  struct greenlet_link *link = lua_touserdata(L, 1);
  greenlet_push(L, link->target);
  greenlet_get_private(L, 2, &greenlet_key_links);
  lua_rawgetp(L, 3, link);
  schedule(L, link, 4, 2);
  return 0;
}

static void notify(struct waiter *waiter) {
  struct greenlet_link *link = container_of(waiter, struct greenlet_link, waiter);
  list_remove(&waiter->link);
  if (!wants(link))
    return;
  lua_State *L = link->target->hub->L;
  lua_pushcfunction(L, schedule_protected);
  lua_pushlightuserdata(L, link);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK)
    lua_pop(L, 1);
}

/* Pushes the list of links of the Greenlet at 1: light userdata -> link. */
static void push_links(lua_State *L) {
  if (greenlet_get_private(L, 1, &greenlet_key_links) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  greenlet_set_private(L, 1, &greenlet_key_links);
}

static int add_link(lua_State *L, enum mode mode) {
  struct greenlet *target = class_check(L, 1, &greenlet_kind);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  lua_settop(L, 2);
  push_links(L);
  struct greenlet_link *link = lua_newuserdatauv(L, sizeof *link, 2);
  *link = (struct greenlet_link){.waiter = {.notify = notify}, .target = target, .mode = mode};
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, 4, LINK_FUNCTION);
  lua_pushvalue(L, 4);
  lua_rawsetp(L, 3, link);
  if (target->state != GREENLET_DEAD) {
    waiter_join(target->hub, &target->done, &link->waiter);
  } else if (wants(link)) {
    schedule(L, link, 4, 1);
  }
  return 0;
}

/***
 * Greenlet:link(f): f(greenlet) runs in a greenlet of its own when this one has ended.
 * @param f function|AsyncResult  anything that can be called
 * Source: gevent.Greenlet.link.
 * Differs: takes a bound method such as queue.put | takes function(g) queue:put(g) end
 */
static int l_link(lua_State *L) { return add_link(L, ANY); }

/***
 * Greenlet:link_value(f): the same, only if it ends without an error (a kill is none).
 * @param f function|AsyncResult
 */
static int l_link_value(lua_State *L) { return add_link(L, VALUE); }

/***
 * Greenlet:link_exception(f): the same, only if it ends by an error.
 * @param f function|AsyncResult
 */
static int l_link_exception(lua_State *L) { return add_link(L, EXCEPTION); }

/***
 * Greenlet:rawlink(f): f(greenlet) is called by the hub, in its turn, when this one has ended.
 * It must not block, and is for bookkeeping: an error in it is printed.
 * @param f function|AsyncResult
 * Source: gevent.Greenlet.rawlink.
 */
static int l_rawlink(lua_State *L) { return add_link(L, RAW); }

/* A link whose turn has not come yet is taken back, whether or not the target has ended. */
static void withdraw(lua_State *L, struct greenlet_link *link, int index) {
  if (list_linked(&link->waiter.link)) {
    list_remove(&link->waiter.link);
  } else if (list_linked(&link->call.link)) {
    list_remove(&link->call.link);
    hub_release(link->target->hub, link->slot);
  } else if (link->runner && link->runner->state == GREENLET_SCHEDULED) {
    lua_getiuservalue(L, index, LINK_RUNNER);
    greenlet_push_exit(L, NULL);
    greenlet_cancel(L, link->runner);
    lua_pop(L, 1);
  }
}

/***
 * Greenlet:unlink(f): a linked f will not be called; nothing happens if it was not linked.
 * @param f any
 */
static int l_unlink(lua_State *L) {
  class_check(L, 1, &greenlet_kind);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  push_links(L);
  for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
    lua_getiuservalue(L, 5, LINK_FUNCTION);
    bool same = lua_rawequal(L, 2, -1);
    lua_pop(L, 1);
    if (same) {
      withdraw(L, lua_touserdata(L, 5), 5);
      lua_pushnil(L);
      lua_rawsetp(L, 3, lua_touserdata(L, 5));
    }
  }
  return 0;
}

const luaL_Reg greenlet_link_methods[] = {
    {"link", l_link},       {"link_value", l_link_value}, {"link_exception", l_link_exception},
    {"rawlink", l_rawlink}, {"unlink", l_unlink},         {NULL, NULL}};
