/* control.c: what a greenlet does with itself: sleep, idle, try, shield, run. */
#include "control.h"

#include <float.h>

#include "greenlet.h"
#include "protect.h"
#include "timeout.h"

/* ---- sleep, idle ---- */

static int nothing_step(lua_State *L, bool timed_out) {
  (void)L, (void)timed_out;
  return 0;
}

static const struct wait_kind turn_kind = {.name = "sleep(0)"};
static const struct wait_kind sleep_kind = {.name = "sleep", .step = nothing_step};
static const struct wait_kind sleep_here_kind = {.name = "sleep"};

/***
 * moonlet.sleep([seconds]): blocks; 0, less, or nil lets every other ready greenlet run once.
 * @param seconds? number
 * Source: gevent.sleep.
 */
static int l_sleep(lua_State *L) {
  int is_integer;
  if (likely(lua_tointegerx(L, 1, &is_integer) <= 0 && (is_integer || lua_isnoneornil(L, 1))))
    return wait_turn(L, &turn_kind);
  double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds == seconds, 1, "seconds are not a number");
  if (seconds <= 0)
    return wait_turn(L, &turn_kind);
  return wait_in(L, NULL, seconds < NO_LIMIT ? seconds : DBL_MAX, &sleep_kind);
}

void moonlet_sleep(lua_State *L, double seconds) {
  if (seconds <= 0)
    wait_turn_here(L, &turn_kind);
  else
    wait_here(L, NULL, seconds, &sleep_here_kind);
}

/***
 * moonlet.idle(): blocks until nothing else is ready.
 * Source: gevent.idle.
 * Differs: takes a priority | there are no priorities
 */
static int l_idle(lua_State *L) {
  static const struct wait_kind kind = {.name = "idle", .external = true};
  return wait_in(L, &hub_of(L)->idlers, NO_LIMIT, &kind);
}

/***
 * moonlet.getcurrent(): the greenlet that runs; the script itself is one, named "main".
 * @return Greenlet
 * Source: gevent.getcurrent.
 * Differs: main is a greenlet without join, kill and the like | main is a Greenlet
 */
static int l_getcurrent(lua_State *L) {
  struct greenlet *g = hub_of(L)->current;
  if (!g)
    return luaL_error(L, "no greenlet is running");
  greenlet_push(L, g);
  return 1;
}

/***
 * moonlet.now(): the clock by which sleeps and timeouts go; it never goes back.
 * @return number # seconds
 */
static int l_now(lua_State *L) {
  lua_pushnumber(L, hub_now(hub_of(L)));
  return 1;
}

/* ---- try ---- */

/* Whether the error at `index` is for the runtime to act on, not for a service loop. */
static bool passes_try(lua_State *L, int index) {
  return greenlet_is_exit(L, index) || class_test(L, index, &timeout_kind) != NULL;
}

static int tried(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) {
    lua_pushboolean(L, 1);
    lua_replace(L, 1);
    return lua_gettop(L);
  }
  if (passes_try(L, -1))
    protect_rethrow(L);
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

/***
 * moonlet.try(f, ...): calls f(...) like pcall, but lets a GreenletExit or a Timeout pass, so
 * that a service loop can be killed.
 * @param f function
 * @return boolean # true, or false if f raised an error
 * @return any ... # f's results, or the error
 * @raise the GreenletExit or Timeout that ended f
 */
static int l_try(lua_State *L) {
  luaL_argexpected(L, greenlet_is_callable(L, 1), 1, "function");
  return tried(L, protect_call(L, lua_gettop(L) - 1, 0, tried), 0);
}

/* ---- shield ---- */

/*
 * A shield belongs to the greenlet that raised it, also if its coroutine is resumed by
 * another one later, or is never resumed again and collected.
 */
struct shield {
  struct greenlet *greenlet; /* kept alive by the user value; NULL: lowered */
};

static void lower(struct shield *shield) {
  if (shield->greenlet)
    shield->greenlet->shield--;
  shield->greenlet = NULL;
}

static int l_lower(lua_State *L) {
  lower(lua_touserdata(L, 1));
  return 0;
}

/* Pushes a raised shield. */
static void push_shield(lua_State *L, struct greenlet *g) {
  struct shield *shield = lua_newuserdatauv(L, sizeof *shield, 1);
  shield->greenlet = NULL;
  if (luaL_newmetatable(L, "moonlet.shield")) {
    lua_pushcfunction(L, l_lower);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  greenlet_push(L, g);
  lua_setiuservalue(L, -2, 1);
  shield->greenlet = g;
  g->shield++;
}

/* The shield is at 1, the handler of protect_call at 2, results or error above. */
static int shielded(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  lower(lua_touserdata(L, 1));
  if (status != LUA_OK && status != LUA_YIELD)
    protect_rethrow(L);
  interrupt_check(L, hub_of(L)->current);
  return lua_gettop(L) - 2;
}

/***
 * moonlet.shield(f, ...): calls f(...); kills and Timeouts aimed at this greenlet are raised
 * when f is done.  May be nested.
 * @param f function
 * @return any ... # f's results
 * @raise what f raises
 */
static int l_shield(lua_State *L) {
  luaL_argexpected(L, greenlet_is_callable(L, 1), 1, "function");
  struct greenlet *g = hub_of(L)->current;
  if (!g)
    return luaL_error(L, "no greenlet is running");
  int nargs = lua_gettop(L) - 1;
  push_shield(L, g);
  lua_insert(L, 1);
  return shielded(L, protect_call(L, nargs, 0, shielded), 0);
}

/* ---- running until nothing is left ---- */

static const struct wait_kind run_kind = {.name = "the end of all others"};

int moonlet_run(lua_State *L, double timeout) {
  struct hub *hub = hub_of(L);
  if (hub->current != hub->main)
    luaL_error(L, "only the main greenlet can wait for all others");
  if (timeout == 0) {
    wait_turn_here(L, &run_kind);
    return list_empty(&hub->ready) && hub->refs == 0 && hub->timers.count == 0;
  }
  return wait_here(L, &hub->drained, timeout < 0 ? NO_LIMIT : timeout, &run_kind);
}

int moonlet_spawn(lua_State *L, int nargs) {
  greenlet_spawn(L, nargs);
  return 1;
}

const luaL_Reg control_functions[] = {
    {"sleep", l_sleep},   {"idle", l_idle}, {"try", l_try}, {"getcurrent", l_getcurrent},
    {"shield", l_shield}, {"now", l_now},   {NULL, NULL}};
