/* timeout.c: Timeout and with_timeout (see timeout.h). */
#include "timeout.h"

#include <stdlib.h>

#include "greenlet.h"
#include "protect.h"

enum { UV_ERROR = CLASS_FIELDS + 1 };

/*
 * What a started Timeout needs.  These are the hub's, and used again and again, so that the
 * many Timeouts that are cancelled in time are small.
 */
struct countdown {
  struct interrupt interrupt;
  struct timer timer;
  union {
    struct timeout *timeout;
    struct countdown *next; /* while it is idle */
  };
  int slot; /* anchors the Timeout */
};

/* ---- countdowns ---- */

struct countdowns {
  struct countdowns *older;
  struct countdown all[31];
};

static void fire(struct timer *timer) {
  struct countdown *countdown = container_of(timer, struct countdown, timer);
  interrupt_send(countdown->interrupt.target->hub, &countdown->interrupt);
}

static void drop(struct hub *hub, struct interrupt *self) {
  struct countdown *countdown = container_of(self, struct countdown, interrupt);
  timer_stop(&hub->timers, &countdown->timer);
  hub_release(hub, countdown->slot);
  countdown->timeout->countdown = NULL;
  countdown->next = hub->idle_countdowns;
  hub->idle_countdowns = countdown;
}

/* The error value: itself, or what it was given; a class stands for an instance of it. */
static void push_error(lua_State *L, struct hub *hub, struct interrupt *self) {
  hub_push_anchored(L, hub, container_of(self, struct countdown, interrupt)->slot);
  drop(hub, self);
  lua_getiuservalue(L, -1, UV_ERROR);
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
  } else if (class_is_class(L, -1)) {
    lua_call(L, 0, 1);
  }
}

static const struct interrupt_kind countdown_kind = {push_error, drop};

static bool make_countdowns(struct hub *hub) {
  struct countdowns *more = calloc(1, sizeof *more);
  if (!more)
    return false;
  more->older = hub->countdowns;
  hub->countdowns = more;
  for (size_t i = 0; i < sizeof more->all / sizeof *more->all; i++) {
    struct countdown *countdown = &more->all[i];
    countdown->interrupt.kind = &countdown_kind;
    countdown->timer.fire = fire;
    countdown->next = hub->idle_countdowns;
    hub->idle_countdowns = countdown;
  }
  return true;
}

void timeouts_close(struct hub *hub) {
  for (struct countdowns *it = hub->countdowns, *older; it; it = older) {
    older = it->older;
    free(it);
  }
}

/* ---- starting and stopping ---- */

/* One that never fires by itself is not pending, though fire() may reach it. */
static bool pending(const struct timeout *timeout) { return timeout->countdown && !timeout->never; }

/* To anchor it may run finalizers, which may start it too. */
static void start(lua_State *L, struct hub *hub, struct timeout *timeout, int index) {
  const char *error = NULL;
  if (!hub->current)
    luaL_error(L, "a Timeout can only be started by a greenlet");
  lua_pushvalue(L, index);
  int slot = hub_anchor(L, hub);
  if (unlikely(timeout->countdown != NULL))
    error = "the Timeout has already been started";
  else if (unlikely(!hub->idle_countdowns && !make_countdowns(hub)) ||
           unlikely(!timers_reserve(&hub->timers)))
    error = "not enough memory for a timer";
  if (unlikely(error != NULL)) {
    hub_release(hub, slot);
    luaL_error(L, "%s", error);
  }
  struct countdown *countdown = hub->idle_countdowns;
  hub->idle_countdowns = countdown->next;
  countdown->timeout = timeout;
  countdown->slot = slot;
  timeout->countdown = countdown;
  if (!timeout->never)
    timer_start(&hub->timers, &countdown->timer, hub_due(hub, timeout->seconds));
  interrupt_aim(&countdown->interrupt, hub->current);
}

/* The one at `index`, unless it is running. */
static void start_idle(lua_State *L, struct timeout *timeout, int index) {
  if (!timeout->countdown)
    start(L, hub_of(L), timeout, index);
}

static void cancel(struct timeout *timeout) {
  struct countdown *countdown = timeout->countdown;
  if (countdown)
    interrupt_drop(countdown->interrupt.target->hub, &countdown->interrupt);
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
  struct timeout *timeout = class_check(L, 1, &timeout_kind);
  start(L, hub_of(L), timeout, 1);
  lua_settop(L, 1);
  return 1;
}

/* Pushes a Timeout of the seconds in argument 1, and starts it. */
static struct timeout *start_new(lua_State *L) {
  struct hub *hub = hub_of(L);
  int is_number;
  double seconds = lua_tonumberx(L, 1, &is_number);
  if (unlikely(!is_number && !lua_isnoneornil(L, 1)))
    luaL_typeerror(L, 1, "number");
  luaL_argcheck(L, seconds == seconds, 1, "seconds are not a number");
  struct timeout *timeout = class_new_from(L, &timeout_kind, hub->keeper, KEEPER_TIMEOUT);
  timeout->seconds = seconds;
  timeout->never = !is_number;
  start(L, hub, timeout, -1);
  return timeout;
}

/***
 * Timeout.start_new([seconds [, err]]): a new started Timeout.
 * Given a Timeout instead of seconds, starts that one unless it is running; returns it.  A
 * subclass's start_new takes what its constructor takes.
 * @param seconds? number|Timeout
 * @param err? any
 * @return Timeout
 * Source: gevent.Timeout.start_new.
 */
static int l_start_new(lua_State *L) {
  if (unlikely(lua_type(L, 1) == LUA_TUSERDATA)) {
    start_idle(L, class_check(L, 1, &timeout_kind), 1);
    lua_settop(L, 1);
    return 1;
  }
  bool given = lua_gettop(L) > 1;
  start_new(L);
  if (unlikely(given)) {
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, UV_ERROR);
  }
  return 1;
}

/* The same for a subclass, which is the upvalue: constructs one of it. */
static int l_class_start_new(lua_State *L) {
  if (lua_type(L, 1) == LUA_TUSERDATA)
    return l_start_new(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  start_idle(L, class_check(L, 1, &timeout_kind), 1);
  return 1;
}

static int l_extend(lua_State *L) {
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, l_class_start_new, 1);
  lua_setfield(L, 1, "start_new");
  return 0;
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
  struct countdown *countdown = ((struct timeout *)class_check(L, 1, &timeout_kind))->countdown;
  if (countdown) {
    timer_stop(&countdown->interrupt.target->hub->timers, &countdown->timer);
    fire(&countdown->timer);
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
  start_idle(L, timeout, 1);
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
  start_new(L);
  lua_replace(L, 1);
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

static const luaL_Reg methods[] = {
    {"new", l_new},       {"start", l_start},    {"start_new", l_start_new}, {"__extend", l_extend},
    {"cancel", l_cancel}, {"close", l_cancel},   {"pending", l_pending},     {"fire", l_fire},
    {"run", l_run},       {"__close", l_cancel}, {"__tostring", l_tostring}, {NULL, NULL}};

const struct class_kind timeout_kind = {.name = "Timeout",
                                        .size = sizeof(struct timeout),
                                        .values = 1,
                                        .methods = methods,
                                        .fields = fields};

const luaL_Reg timeout_functions[] = {{"with_timeout", l_with_timeout}, {NULL, NULL}};
