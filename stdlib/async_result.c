/*
 * async_result.c: AsyncResult of moonlet.event, a place for values or an error.
 *
 * Greenlets wait for them; functions may be linked to it, and it to greenlets.
 */
#include "event.h"

#include "greenlet.h"
#include "protect.h"

/* User values: the outcome, kept as a Greenlet's is; the error's traceback; links. */
enum { RESULT_OUTCOME = UV_OUTCOME, RESULT_TRACEBACK, RESULT_LINKS };

struct result {
  struct class_object object;
  struct link waiters; /* those who wait, and links */
  bool ready, failed;
  int count; /* values in RESULT_OUTCOME */
};

static struct result *check(lua_State *L) { return class_check(L, 1, &async_result_kind); }

static void init(lua_State *L, void *object) {
  struct result *result = object;
  (void)L;
  list_init(&result->waiters);
}

/* ---- links ---- */

/*
 * A link is a waiter among the others, which keeps its place in their order.  The table in
 * RESULT_LINKS has it, by its address, until its function is called or unlinked; its user
 * value is the function.
 */
enum { LINK_FUNCTION = 1 };

/* Here nothing can be started; announce() does it. */
static void notify_link(struct waiter *waiter) { list_remove(&waiter->link); }

/* Pushes the table of links of the result at 1. */
static void push_links(lua_State *L) {
  if (lua_getiuservalue(L, 1, RESULT_LINKS) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, RESULT_LINKS);
}

static int linked_called(lua_State *L, int status, lua_KContext ctx) {
  (void)L, (void)status, (void)ctx;
  return 0;
}

/* What a link's greenlet runs, with the result and the link: calls f unless it was unlinked. */
static int call_linked(lua_State *L) {
  const void *link = lua_touserdata(L, 2);
  push_links(L);
  if (lua_rawgetp(L, 3, link) == LUA_TNIL)
    return 0;
  lua_pushnil(L);
  lua_rawsetp(L, 3, link);
  lua_getiuservalue(L, 2, LINK_FUNCTION);
  lua_pushvalue(L, 1);
  lua_callk(L, 1, 0, 0, linked_called);
  return 0;
}

/* Starts a greenlet for the link, which is in the table of links, of the result at 1. */
static void start_link(lua_State *L, const struct waiter *link) {
  lua_pushcfunction(L, call_linked);
  lua_pushvalue(L, 1);
  push_links(L);
  lua_rawgetp(L, -1, link);
  lua_remove(L, -2);
  greenlet_spawn(L, 2);
  lua_pop(L, 1);
}

/***
 * AsyncResult:link(f): f(result) runs in a greenlet of its own once the result is set, in a
 * later turn if it is set already.
 * @param f function|AsyncResult  anything that can be called
 * Differs: rawlink, called by the hub; once, however often it was linked | called in a greenlet
 *   of its own; as often as it was linked
 */
static int l_link(lua_State *L) {
  struct result *result = check(L);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  lua_settop(L, 2);
  push_links(L);
  struct waiter *link = lua_newuserdatauv(L, sizeof *link, 1);
  *link = (struct waiter){.notify = notify_link};
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, 4, LINK_FUNCTION);
  lua_rawsetp(L, 3, link);
  if (result->ready)
    start_link(L, link);
  else
    waiter_join(hub_of(L), &result->waiters, link);
  return 0;
}

/***
 * AsyncResult:unlink(f): f will not be called; nothing happens if it was not linked.
 * @param f any
 */
static int l_unlink(lua_State *L) {
  check(L);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  push_links(L);
  for (lua_pushnil(L); lua_next(L, 3); lua_settop(L, 4)) {
    lua_getiuservalue(L, 5, LINK_FUNCTION);
    if (!lua_rawequal(L, 6, 2))
      continue;
    struct waiter *link = lua_touserdata(L, 5);
    if (list_linked(&link->link))
      list_remove(&link->link);
    lua_pushnil(L);
    lua_rawsetp(L, 3, link);
  }
  return 0;
}

/* ---- setting ---- */

/* Tells waiters and links of the result at 1, in the order in which they came. */
static void announce(lua_State *L, struct result *result) {
  while (!list_empty(&result->waiters)) {
    struct waiter *first = container_of(result->waiters.next, struct waiter, link);
    bool is_link = first->notify == notify_link;
    first->notify(first);
    if (is_link)
      start_link(L, first);
  }
}

/* The outcome of the result at 1 is now `count` values (popped), or one error. */
static void settle(lua_State *L, struct result *result, int count, bool failed) {
  greenlet_store(L, 1, count);
  result->count = count;
  result->failed = failed;
  result->ready = true;
  announce(L, result);
}

/***
 * AsyncResult:set(...), AsyncResult:set_result(...): the values for all who wait and will
 * ask.  Setting it again replaces the whole outcome, also an error.
 * Differs: takes one value | takes any number
 * Differs: setting it again after an error, or an error after a value, mixes the two | replaces
 *   the whole outcome
 */
static int l_set(lua_State *L) {
  settle(L, check(L), lua_gettop(L) - 1, false);
  return 0;
}

/***
 * AsyncResult:set_exception(err): every get() raises err.
 * The traceback shown for it is the one of err if it has just been caught, else this call's.
 * @param err any
 */
static int l_set_exception(lua_State *L) {
  struct result *result = check(L);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  protect_push_traceback(L, 2, L, 1);
  lua_setiuservalue(L, 1, RESULT_TRACEBACK);
  settle(L, result, 1, true);
  return 0;
}

/***
 * AsyncResult:__call(greenlet): copies the outcome of a greenlet that has ended.
 * So an AsyncResult can be a link: greenlet:link(result).
 * @param greenlet Greenlet
 */
static int l_call(lua_State *L) {
  struct result *result = check(L);
  const struct greenlet *g = class_test(L, 2, &greenlet_kind);
  if (!g)
    return class_typeerror(L, 2, "Greenlet");
  if (g->state != GREENLET_DEAD)
    return class_argerror(L, 2, "greenlet has not ended");
  if (g->failed) {
    greenlet_get_private(L, 2, &greenlet_key_traceback);
    lua_setiuservalue(L, 1, RESULT_TRACEBACK);
  }
  settle(L, result, greenlet_push_stored(L, 2, g->results), g->failed);
  return 0;
}

/***
 * AsyncResult:cancel(), AsyncResult:cancelled(): false, since a result has no work to stop.
 * @return boolean
 */
static int l_cancel(lua_State *L) {
  check(L);
  lua_pushboolean(L, 0);
  return 1;
}

/* ---- asking ---- */

static int get_step(lua_State *L, bool timed_out) {
  const struct result *result = lua_touserdata(L, 1);
  if (!result->ready) {
    if (!timed_out)
      return WAIT_AGAIN;
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
  }
  int count = greenlet_push_stored(L, 1, result->count);
  if (!result->failed)
    return count;
  if (lua_getiuservalue(L, 1, RESULT_TRACEBACK) == LUA_TSTRING)
    protect_remember(L, -2);
  else
    lua_pop(L, 1);
  protect_rethrow(L);
}

/***
 * AsyncResult:get([timeout]), AsyncResult:result([timeout]): waits for the values.
 * @param timeout? number|Timeout  seconds
 * @return any ... # all of them; nil, "timeout" at the timeout
 * @raise the error of set_exception()
 * Source: gevent.event.AsyncResult.
 * Differs: a Timeout is raised when the time is up | returns nil, "timeout"
 */
static int l_get(lua_State *L) {
  static const struct wait_kind kind = {.name = "AsyncResult:get", .step = get_step};
  return wait_for(L, &check(L)->waiters, 2, &kind);
}

/***
 * AsyncResult:get_nowait(): the same without waiting.
 * @return any ...
 * @raise the error of set_exception()
 */
static int l_get_nowait(lua_State *L) {
  check(L);
  return get_step(L, true);
}

static int wait_step(lua_State *L, bool timed_out) {
  const struct result *result = lua_touserdata(L, 1);
  if (!result->ready && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, result->ready);
  return 1;
}

/***
 * AsyncResult:wait([timeout]): waits until it is set.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * Differs: returns the value, or None | returns whether it is set
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {.name = "AsyncResult:wait", .step = wait_step};
  return wait_for(L, &check(L)->waiters, 2, &kind);
}

/***
 * AsyncResult:ready(), AsyncResult:done(): whether it is set, to values or an error.
 * @return boolean
 */
static int l_ready(lua_State *L) {
  lua_pushboolean(L, check(L)->ready);
  return 1;
}

/***
 * AsyncResult:successful(): whether it is set to values.
 * @return boolean
 */
static int l_successful(lua_State *L) {
  const struct result *result = check(L);
  lua_pushboolean(L, result->ready && !result->failed);
  return 1;
}

/* The field `value`: the first of the values. */
static void get_value(lua_State *L, void *object) {
  const struct result *result = object;
  int top = lua_gettop(L);
  if (!result->failed)
    greenlet_push_stored(L, 1, result->count);
  lua_settop(L, top + 1);
}

/* The field `exception`. */
static void get_exception(lua_State *L, void *object) {
  const struct result *result = object;
  if (result->failed)
    lua_getiuservalue(L, 1, RESULT_OUTCOME);
  else
    lua_pushnil(L);
}

static int l_tostring(lua_State *L) {
  const struct result *result = check(L);
  lua_settop(L, 1);
  class_push_name(L, 1);
  if (result->failed) {
    lua_getiuservalue(L, 1, RESULT_OUTCOME);
    lua_pushfstring(L, "<%s %p: failed: %s>", lua_tostring(L, 2), result,
                    luaL_tolstring(L, 3, NULL));
  } else {
    const char *state = result->ready ? "set" : "not set";
    lua_pushfstring(L, "<%s %p: %s>", lua_tostring(L, 2), result, state);
  }
  return 1;
}

static struct link *watch(void *object) {
  struct result *result = object;
  return result->ready ? NULL : &result->waiters;
}

/***
 * @class moonlet.event.AsyncResult: Object
 * A place for values or an error, which greenlets wait for.
 * @field value any  the first of the values
 * @field exception any  the error
 */

/*** AsyncResult(): is not set at first. */
static const struct class_field fields[] = {
    {"value", get_value, NULL}, {"exception", get_exception, NULL}, {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"set", l_set},
                                   {"set_result", l_set},
                                   {"set_exception", l_set_exception},
                                   {"cancel", l_cancel},
                                   {"cancelled", l_cancel},
                                   {"get", l_get},
                                   {"result", l_get},
                                   {"get_nowait", l_get_nowait},
                                   {"wait", l_wait},
                                   {"ready", l_ready},
                                   {"done", l_ready},
                                   {"successful", l_successful},
                                   {"link", l_link},
                                   {"unlink", l_unlink},
                                   {"__call", l_call},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind async_result_kind = {.name = "AsyncResult",
                                             .size = sizeof(struct result),
                                             .values = 3,
                                             .init = init,
                                             .methods = methods,
                                             .fields = fields,
                                             .watch = watch};
