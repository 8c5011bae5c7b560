/* timeout.c: Timeout and with_timeout (see timeout.h). */
#include "timeout.h"

#include "greenlet.h"
#include "protect.h"

enum { UV_ERROR = CLASS_FIELDS + 1 };

/* ---- as an interrupt ---- */

static void fire(struct timer *timer) {
  struct timeout *timeout = container_of(timer, struct timeout, timer);
  interrupt_send(timeout->interrupt.target->hub, &timeout->interrupt);
}

/* The error value: itself, or what it was given; a class stands for an instance of it. */
static void push_error(lua_State *L, struct interrupt *self) {
  struct timeout *timeout = container_of(self, struct timeout, interrupt);
  hub_push_anchored(L, hub_find(L), timeout->slot);
  lua_getiuservalue(L, -1, UV_ERROR);
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
  } else if (class_is_class(L, -1)) {
    lua_call(L, 0, 1);
  }
}

static void drop(struct hub *hub, struct interrupt *self) {
  struct timeout *timeout = container_of(self, struct timeout, interrupt);
  timer_stop(&hub->timers, &timeout->timer);
  hub_release(hub, timeout->slot);
  timeout->started = false;
}

static void init(lua_State *L, void *object) {
  struct timeout *timeout = object;
  (void)L;
  timeout->interrupt.push = push_error;
  timeout->interrupt.drop = drop;
  timeout->timer.fire = fire;
  timeout->never = true;
}

/* ---- starting and stopping ---- */

static bool aimed(const struct timeout *timeout) { return timeout->interrupt.target != NULL; }

/* One that never fires by itself is not pending, though fire() may reach it. */
static bool pending(const struct timeout *timeout) { return aimed(timeout) && !timeout->never; }

static void start(lua_State *L, int index) {
  struct timeout *timeout = lua_touserdata(L, index);
  if (timeout->started)
    luaL_error(L, "the Timeout has already been started");
  struct hub *hub = hub_of(L);
  if (!hub->current)
    luaL_error(L, "a Timeout can only be started by a greenlet");
  if (!timers_reserve(&hub->timers))
    luaL_error(L, "not enough memory for a timer");
  lua_pushvalue(L, index);
  timeout->slot = hub_anchor(L, hub);
  if (!timeout->never)
    hub_start_timer(L, hub, &timeout->timer, timeout->seconds);
  interrupt_aim(&timeout->interrupt, hub->current);
  timeout->started = true;
}

static void cancel(struct timeout *timeout) {
  if (aimed(timeout))
    interrupt_drop(timeout->interrupt.target->hub, &timeout->interrupt);
  timeout->started = false;
}

/* ---- methods ---- */

/***
 * Timeout([seconds [, err]]): a time limit for what the current greenlet does.
 * When the time is up after start(), an error is raised where the greenlet that started it
 * blocks: at the next pass of the loop if the seconds are 0 or less.
 * @param seconds? number  nil: it never expires
 * @param err? any  raised instead of the Timeout; of a class an instance; false: silent, see run()
 * Source: gevent.Timeout.
 * Differs: given a string, raises the Timeout with that text | raises the string
 * Differs: Timeouts compare with numbers, by their seconds | they do not
 */
static int l_new(lua_State *L) {
  struct timeout *timeout = class_check(L, 1, &timeout_kind);
  lua_settop(L, 3);
  timeout->seconds = class_optnumber(L, 2, 0);
  timeout->never = lua_isnil(L, 2);
  lua_setiuservalue(L, 1, UV_ERROR);
  return 0;
}

/***
 * Timeout:start(): starts the clock.
 * @return Timeout # itself
 * @raise an error if it is running
 * Differs: returns nothing | returns the Timeout
 */
static int l_start(lua_State *L) {
  class_check(L, 1, &timeout_kind);
  start(L, 1);
  lua_settop(L, 1);
  return 1;
}

/* Pushes a Timeout of the seconds in argument 1. */
static struct timeout *new_timeout(lua_State *L) {
  bool never = lua_isnil(L, 1);
  double seconds = never ? 0 : luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds == seconds, 1, "seconds are not a number");
  struct timeout *timeout = class_new(L, &timeout_kind);
  timeout->seconds = seconds;
  timeout->never = never;
  return timeout;
}

/***
 * Timeout.start_new([seconds [, err]]): a new started Timeout.
 * Given a Timeout instead of seconds, starts that one unless it is running; returns it.
 * @param seconds? number|Timeout
 * @param err? any
 * @return Timeout
 * Source: gevent.Timeout.start_new.
 */
static int l_start_new(lua_State *L) {
  struct timeout *timeout = class_test(L, 1, &timeout_kind);
  if (timeout) {
    lua_settop(L, 1);
    if (!timeout->started)
      start(L, 1);
    return 1;
  }
  lua_settop(L, 2);
  new_timeout(L);
  if (!lua_isnil(L, 2)) {
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 3, UV_ERROR);
  }
  start(L, 3);
  return 1;
}

/***
 * Timeout:cancel(), Timeout:close(): stops the clock; may be called again.
 * Differs: close() is final | one that was closed may be started again
 */
static int l_cancel(lua_State *L) {
  cancel(class_check(L, 1, &timeout_kind));
  return 0;
}

/***
 * Timeout:pending(): whether it is running and has not been raised yet.
 * @return boolean
 */
static int l_pending(lua_State *L) {
  const struct timeout *timeout = class_check(L, 1, &timeout_kind);
  lua_pushboolean(L, pending(timeout));
  return 1;
}

/***
 * Timeout:fire(): makes it due now, as if its time were up; also one of nil seconds.
 * Nothing happens unless it is started; cancel() still takes it back until it is raised.
 */
static int l_fire(lua_State *L) {
  struct timeout *timeout = class_check(L, 1, &timeout_kind);
  if (aimed(timeout)) {
    struct hub *hub = timeout->interrupt.target->hub;
    timer_stop(&hub->timers, &timeout->timer);
    interrupt_send(hub, &timeout->interrupt);
  }
  return 0;
}

/* "1 second", "0.5 seconds (silent)", "2 seconds: too slow"; nothing if it never fires. */
static int l_tostring(lua_State *L) {
  const struct timeout *timeout = class_check(L, 1, &timeout_kind);
  if (timeout->never)
    return lua_pushliteral(L, ""), 1;
  lua_Number seconds = timeout->seconds;
  lua_Integer whole;
  if (lua_numbertointeger(seconds, &whole) && (lua_Number)whole == seconds)
    lua_pushfstring(L, "%I second%s", whole, whole == 1 ? "" : "s");
  else
    lua_pushfstring(L, "%f seconds", seconds);
  int type = lua_getiuservalue(L, 1, UV_ERROR);
  if (type == LUA_TSTRING)
    lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
  else if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
    lua_pushfstring(L, "%s (silent)", lua_tostring(L, -2));
  else
    lua_pop(L, 1);
  return 1;
}

/* ---- running a function under a Timeout ---- */

/* The Timeout is at 1, the handler of protect_call at 2, results or error above. */
static int after_run(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  cancel(lua_touserdata(L, 1));
  if (status == LUA_OK || status == LUA_YIELD)
    return lua_gettop(L) - 2;
  if (lua_rawequal(L, 1, -1)) {
    lua_getiuservalue(L, 1, UV_ERROR);
    if (lua_isboolean(L, -1))
      return 0;
    lua_pop(L, 1);
  }
  protect_rethrow(L);
}

/***
 * Timeout:run(f, ...): starts the Timeout, runs f(...), cancels it.
 * @param f function
 * @return any ... # f's results; none if it was silent and expired
 * @raise what f raises; the Timeout, unless it is silent
 * Differs: a silent Timeout leaves its `with` block quietly | it ends the f of run() quietly
 */
static int l_run(lua_State *L) {
  struct timeout *timeout = class_check(L, 1, &timeout_kind);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  if (!timeout->started)
    start(L, 1);
  return after_run(L, protect_call(L, lua_gettop(L) - 2, 0, after_run), 0);
}

static int after_with(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  cancel(lua_touserdata(L, 1));
  if (status == LUA_OK || status == LUA_YIELD)
    return lua_gettop(L) - 2;
  if (!lua_rawequal(L, 1, -1))
    protect_rethrow(L);
  lua_pushnil(L);
  lua_pushliteral(L, "timeout");
  return 2;
}

/***
 * moonlet.with_timeout(seconds, f, ...): runs f(...), for so many seconds at most.
 * @param seconds number|nil  nil: without a limit
 * @param f function
 * @return any ... # f's results, or nil, "timeout"
 * @raise what f raises, Timeouts that f or the caller started too
 * Source: gevent.with_timeout.
 * Differs: raises the Timeout, or returns timeout_value | returns nil, "timeout"
 */
static int l_with_timeout(lua_State *L) {
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  new_timeout(L);
  lua_replace(L, 1);
  start(L, 1);
  return after_with(L, protect_call(L, lua_gettop(L) - 2, 0, after_with), 0);
}

/* ---- the class ---- */

static void get_seconds(lua_State *L, void *object) {
  const struct timeout *timeout = object;
  if (timeout->never)
    lua_pushnil(L);
  else
    lua_pushnumber(L, timeout->seconds);
}

static void set_seconds(lua_State *L, void *object) {
  struct timeout *timeout = object;
  timeout->never = lua_isnil(L, 3);
  timeout->seconds = timeout->never ? 0 : luaL_checknumber(L, 3);
}

/***
 * @class moonlet.Timeout: Object
 * A time limit that is raised as an error.  As a `<close>` variable it is cancelled:
 *
 *     local limit <close> = Timeout.start_new(5)
 *
 * @field seconds? number  may be set
 */
static const struct class_field fields[] = {{"seconds", get_seconds, set_seconds},
                                            {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"new", l_new},
                                   {"start", l_start},
                                   {"start_new", l_start_new},
                                   {"cancel", l_cancel},
                                   {"close", l_cancel},
                                   {"pending", l_pending},
                                   {"fire", l_fire},
                                   {"run", l_run},
                                   {"__close", l_cancel},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind timeout_kind = {.name = "Timeout",
                                        .size = sizeof(struct timeout),
                                        .values = 1,
                                        .init = init,
                                        .methods = methods,
                                        .fields = fields};

const luaL_Reg timeout_functions[] = {{"with_timeout", l_with_timeout}, {NULL, NULL}};
