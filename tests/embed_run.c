/* embed_run.c: a C program in which Moonlet runs its own loop. */
#include "support.h"

/* ---- starting greenlets and running them ---- */

static int count_calls(lua_State *L) {
  lua_Integer *count = lua_touserdata(L, lua_upvalueindex(1));
  *count += luaL_checkinteger(L, 1);
  return 0;
}

static void spawns_from_c(void) {
  lua_State *L = open_state(NULL);
  lua_Integer sum = 0;
  for (int i = 1; i <= 3; i++) {
    lua_pushlightuserdata(L, &sum);
    lua_pushcclosure(L, count_calls, 1);
    lua_pushinteger(L, i);
    check(moonlet_spawn(L, 1) == 1);
    check(lua_gettop(L) == i);
    check(strstr(luaL_tolstring(L, -1, NULL), "Greenlet"));
    lua_pop(L, 1);
  }
  check(sum == 0);
  check(moonlet_run(L, -1) == 1);
  check(sum == 6);
  lua_getfield(L, 1, "dead");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  check(lua_toboolean(L, -1));
  close_state(L);
}

static void runs_until_nothing_is_left(void) {
  lua_State *L = open_state(NULL);
  check(moonlet_run(L, -1) == 1);
  run(L, "n = 0\n"
         "moonlet.spawn(function() for i = 1, 3 do moonlet.sleep(0.001) n = n + 1 end end)\n"
         "stuck = moonlet.spawn(function() require 'moonlet.event'.Event():wait() end)");
  check(moonlet_run(L, -1) == 1);
  check(global(L, "n") == 3);
  run(L, "assert(not stuck:dead())");
  check(moonlet_run(L, -1) == 1);
  close_state(L);
}

static void runs_for_a_limited_time(void) {
  lua_State *L = open_state(NULL);
  run(L, "n = 0\n"
         "sleeper = moonlet.spawn(moonlet.sleep, 3600)\n"
         "moonlet.spawn(function() n = n + 1 end)");
  double start = now();
  check(moonlet_run(L, 0.02) == 0);
  check(now() - start >= 0.019);
  check(global(L, "n") == 1);
  run(L, "assert(not sleeper:dead()) sleeper:kill()");
  check(moonlet_run(L, 60) == 1);
  close_state(L);
}

static void failures_stay_in_their_greenlet(void) {
  lua_State *L = open_state(NULL);
  run(L, "moonlet.set_error_handler(function(g, err) failed, message = g, err end)\n"
         "bad = moonlet.spawn(error, 'oops')\n"
         "moonlet.spawn(function() moonlet.sleep(0) after = 1 end)");
  check(moonlet_run(L, -1) == 1);
  run(L, "assert(failed == bad and message == 'oops' and after == 1)");
  close_state(L);
}

/* ---- blocking in C functions ---- */

static int sleep_in_c(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  char frame[] = "on the C stack";
  moonlet_sleep(L, seconds);
  lua_pushstring(L, frame);
  return 1;
}

/* A C function of the old kind: calls Lua without a continuation. */
static int call_through(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static void sleeps_in_c(void) {
  lua_State *L = open_state(NULL);
  lua_register(L, "sleep_in_c", sleep_in_c);
  lua_register(L, "call_through", call_through);
  run(L, "order = {}\n"
         "local function sleeper(seconds, name)\n"
         "  assert(call_through(call_through, sleep_in_c, seconds) == 'on the C stack')\n"
         "  order[#order + 1] = name\n"
         "end\n"
         "moonlet.spawn(sleeper, 0.02, 'c')\n"
         "moonlet.spawn(sleeper, 0.01, 'b')\n"
         "moonlet.spawn(sleeper, 0, 'a')\n"
         "sleep_in_c(0.03)\n"
         "assert(table.concat(order) == 'abc', table.concat(order))");
  run(L, "local g = moonlet.spawn(call_through, sleep_in_c, 3600)\n"
         "moonlet.sleep(0)\n"
         "assert(g:kill() and g.value:is(moonlet.GreenletExit))");
  run(L, "local t = moonlet.Timeout.start_new(0.001)\n"
         "local ok, err = pcall(call_through, sleep_in_c, 3600)\n"
         "assert(not ok and err == t)");
  close_state(L);
}

/* ---- misuse ---- */

static int run_in_c(lua_State *L) {
  lua_pushboolean(L, moonlet_run(L, -1));
  return 1;
}

static void only_main_runs_all(void) {
  lua_State *L = open_state(NULL);
  lua_register(L, "run_in_c", run_in_c);
  run(L, "assert(run_in_c() == true)");
  run(L, "moonlet.set_error_handler(function() end)\n"
         "local g = moonlet.spawn(run_in_c)\n"
         "g:join()\n"
         "assert(tostring(g.exception):find('main', 1, true), g.exception)");
  close_state(L);
}

static int open_runtime(lua_State *L) {
  lua_pushinteger(L, moonlet_open(L, NULL));
  return 1;
}

static void opens_once(void) {
  lua_State *L = open_state(NULL);
  check(moonlet_open(L, NULL) == LUA_OK);
  lua_register(L, "open_runtime", open_runtime);
  run(L, "assert(open_runtime() == 0 and require 'moonlet' == moonlet)");
  check(lua_gettop(L) == 0);
  close_state(L);
}

static void needs_a_runtime(void) {
  lua_State *L = new_state();
  lua_register(L, "sleep_in_c", sleep_in_c);
  run_fails(L, "sleep_in_c(0)", "not open");
  moonlet_close(L);
  lua_close(L);
}

int main(void) {
  limit_time(60);
  spawns_from_c();
  runs_until_nothing_is_left();
  runs_for_a_limited_time();
  failures_stay_in_their_greenlet();
  sleeps_in_c();
  only_main_runs_all();
  opens_once();
  needs_a_runtime();
  return 0;
}
