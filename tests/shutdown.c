/* shutdown.c: the end of a runtime, with and without moonlet_close. */
#include "support.h"

/* ---- a state whose memory is counted ---- */

struct usage {
  size_t bytes;
};

static void *count_bytes(void *argument, void *block, size_t before, size_t after) {
  struct usage *usage = argument;
  usage->bytes -= block ? before : 0;
  usage->bytes += after;
  if (after > 0)
    return realloc(block, after);
  free(block);
  return NULL;
}

static struct usage usage;

/* call(f, ...): calls f without a continuation, so that nothing in it can yield. */
static int l_call(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* The script's helpers: closing(name) makes a value that notes when it is closed. */
static const char prelude[] =
    "moonlet = require 'moonlet'\n"
    "closed, count = {}, 0\n"
    "function closing(name)\n"
    "  return setmetatable({}, {__close = function()\n"
    "    closed[name] = (closed[name] or 0) + 1\n"
    "    count = count + 1\n"
    "  end})\n"
    "end\n"
    "function forever() moonlet.sleep(3600) end\n"
    "function guarded(name, f, ...)\n"
    "  local guard <close> = closing(name)\n"
    "  return f(...)\n"
    "end\n"
    "function sorting(f) table.sort({2, 1}, function() f() return false end) end\n"
    "function in_coroutine(f) return coroutine.wrap(function() return f() end)() end\n";

static lua_State *open_counted(void) {
  usage = (struct usage){0};
  lua_State *L = lua_newstate(count_bytes, &usage);
  check(L != NULL);
  luaL_openlibs(L);
  check(moonlet_open(L, NULL) == LUA_OK);
  lua_register(L, "call", l_call);
  run(L, prelude);
  return L;
}

static void close_counted(lua_State *L) {
  lua_close(L);
  check(usage.bytes == 0);
}

/* Greenlets in every state, nine of which hold something to be closed; one has yet to run. */
static const char population[] =
    "list = {\n"
    "  moonlet.spawn(guarded, 'parked', forever),\n"
    "  moonlet.spawn(guarded, 'pinned', call, forever),\n"
    "  moonlet.spawn(guarded, 'deeper', call, call, sorting, forever),\n"
    "  moonlet.spawn(sorting, function() guarded('in C', forever) end),\n"
    "  moonlet.spawn(guarded, 'nested', in_coroutine, forever),\n"
    "  moonlet.spawn(guarded, 'mixed', in_coroutine, function() sorting(forever) end),\n"
    "  moonlet.spawn(guarded, 'event', function() require 'moonlet.event'.Event():wait() end),\n"
    "  moonlet.spawn(guarded, 'busy', function() while true do moonlet.sleep(0) end end),\n"
    "  moonlet.spawn(guarded, 'shield', moonlet.shield, forever),\n"
    "}\n"
    "moonlet.sleep(0) moonlet.sleep(0)\n"
    "list[#list + 1] = moonlet.spawn(guarded, 'not yet', forever)\n"
    "list[#list + 1] = moonlet.spawn_later(1, guarded, 'not yet', forever)\n"
    "unstarted = moonlet.Greenlet(guarded, 'not yet', forever)\n"
    "timeout = moonlet.Timeout.start_new(3600)\n"
    "suspended = coroutine.create(function() guarded('suspended', coroutine.yield) end)\n"
    "coroutine.resume(suspended)\n";

/* ---- moonlet_close ---- */

static void close_ends_every_greenlet(void) {
  lua_State *L = open_counted();
  run(L, population);
  run(L, "assert(count == 0)");
  moonlet_close(L);
  run(L,
      "for _, g in ipairs(list) do assert(g:dead() and g:successful(), tostring(g)) end\n"
      "for _, name in ipairs {'parked', 'pinned', 'deeper', 'in C', 'nested', 'mixed', 'event',\n"
      "                       'busy', 'shield'} do\n"
      "  assert(closed[name] == 1, name)\n"
      "end\n"
      "assert(count == 9 and coroutine.status(suspended) == 'suspended')");
  close_counted(L);
}

static void close_twice_is_nothing_new(void) {
  lua_State *L = open_counted();
  run(L, population);
  moonlet_close(L);
  moonlet_close(L);
  run(L, "assert(count == 9)");
  close_counted(L);
}

static void close_without_greenlets(void) {
  lua_State *L = open_counted();
  moonlet_close(L);
  close_counted(L);
}

/* Those that go on after each error are left behind at last; the others end well. */
static void stubborn_greenlets_do_not_stop_it(void) {
  lua_State *L = open_counted();
  run(L, "local function stubborn() while true do pcall(forever) end end\n"
         "moonlet.spawn(stubborn)\n"
         "moonlet.spawn(call, stubborn)\n"
         "moonlet.spawn(in_coroutine, stubborn)\n"
         "moonlet.spawn(guarded, 'good', call, forever)\n"
         "moonlet.spawn(guarded, 'patient', function()\n"
         "  for i = 1, 2 do pcall(forever) end\n"
         "end)\n"
         "moonlet.sleep(0)");
  moonlet_close(L);
  run(L, "assert(closed.good == 1 and closed.patient == 1)");
  close_counted(L);
}

/* What greenlets do on their way out: they can neither block nor start others. */
static void closing_greenlets_cannot_block(void) {
  lua_State *L = open_counted();
  run(L, "local function last_words(f, ...)\n"
         "  local args = table.pack(...)\n"
         "  local guard <close> = setmetatable({}, {__close = function()\n"
         "    local ok, err = pcall(f, table.unpack(args))\n"
         "    if not ok and tostring(err):find('closing', 1, true) then count = count + 1 end\n"
         "  end})\n"
         "  forever()\n"
         "end\n"
         "for _, way in ipairs {function(f, ...) return f(...) end, call} do\n"
         "  moonlet.spawn(way, last_words, moonlet.sleep, 0)\n"
         "  moonlet.spawn(way, last_words, moonlet.sleep, 1)\n"
         "  moonlet.spawn(way, last_words, moonlet.spawn, print)\n"
         "end\n"
         "moonlet.sleep(0)");
  moonlet_close(L);
  check(global(L, "count") == 6);
  close_counted(L);
}

static void a_failure_on_the_way_out_is_no_matter(void) {
  lua_State *L = open_counted();
  run(L, "moonlet.set_error_handler(function() end)\n"
         "local function failing()\n"
         "  local guard <close> = setmetatable({}, {__close = function() error 'oops' end})\n"
         "  forever()\n"
         "end\n"
         "moonlet.spawn(failing)\n"
         "moonlet.spawn(call, failing)\n"
         "moonlet.spawn(guarded, 'good', forever)\n"
         "moonlet.sleep(0)");
  moonlet_close(L);
  run(L, "assert(closed.good == 1)");
  close_counted(L);
}

static void a_closed_runtime_says_so(void) {
  lua_State *L = open_counted();
  moonlet_close(L);
  run_fails(L, "moonlet.sleep(0)", "clos");
  run_fails(L, "moonlet.sleep(1)", "clos");
  run_fails(L, "moonlet.spawn(print)", "clos");
  check(moonlet_open(L, NULL) != LUA_OK);
  check(strstr(lua_tostring(L, -1), "clos"));
  lua_settop(L, 0);
  close_counted(L);
}

/* ---- lua_close alone ---- */

static void lua_close_frees_all(void) {
  lua_State *L = open_counted();
  run(L, population);
  close_counted(L);
  L = open_counted();
  run(L, "local function stubborn() while true do pcall(forever) end end\n"
         "for i = 1, 100 do moonlet.spawn(i % 2 == 0 and stubborn or sorting, forever) end\n"
         "moonlet.sleep(0)");
  close_counted(L);
}

/* Finalizers that run in lua_close may meet a runtime that is gone. */
static void finalizers_at_the_end_are_refused(void) {
  lua_State *L = open_counted();
  run(L, "for i = 1, 10 do\n"
         "  setmetatable({}, {__gc = function()\n"
         "    for _, f in ipairs {moonlet.sleep, forever, moonlet.getcurrent} do pcall(f, 0) end\n"
         "    pcall(moonlet.spawn, print)\n"
         "    pcall(function() local t = moonlet.Timeout.start_new(1) end)\n"
         "  end})\n"
         "end");
  run(L, population);
  close_counted(L);
}

static int l_pass(lua_State *L) {
  (*(int *)lua_touserdata(L, lua_upvalueindex(1)))++;
  return 0;
}

/* What got its finalizer before the runtime was opened is finalized after it. */
static lua_State *prepare_passing(int *passed) {
  lua_State *L = new_state();
  lua_pushlightuserdata(L, passed);
  lua_pushcclosure(L, l_pass, 1);
  lua_setglobal(L, "pass");
  return L;
}

static void a_timeout_outlives_the_runtime(void) {
  int passed = 0;
  lua_State *L = prepare_passing(&passed);
  run(L, "early = setmetatable({}, {__gc = function()\n"
         "  assert(not timeout:pending() and not pcall(timeout.start, timeout))\n"
         "  timeout:fire() timeout:cancel() pass()\n"
         "end})");
  check(moonlet_open(L, NULL) == LUA_OK);
  run(L, "timeout = require 'moonlet'.Timeout.start_new(3600)");
  lua_close(L);
  check(passed == 1);
}

static void greenlets_outlive_the_runtime(void) {
  int passed = 0;
  lua_State *L = prepare_passing(&passed);
  run(L, "early = setmetatable({}, {__gc = function(list)\n"
         "  for i, g in ipairs(list) do\n"
         "    assert(not g.started and g:ready() == (i < #list))\n"
         "    assert(tostring(g):find(g.name, 1, true))\n"
         "    assert(not pcall(moonlet.kill, g) and not pcall(g.kill, g))\n"
         "    assert(i == #list or not g.args)\n"
         "  end\n"
         "  pass()\n"
         "end})");
  check(moonlet_open(L, NULL) == LUA_OK);
  run(L, "moonlet = require 'moonlet'\n"
         "local function sleep() moonlet.sleep(3600) end\n"
         "early[1] = moonlet.spawn(sleep, 'parked')\n"
         "early[2] = moonlet.spawn(table.sort, {2, 1}, sleep)\n"
         "moonlet.sleep(0)\n"
         "early[3] = moonlet.spawn(sleep, 'has not run yet')\n"
         "early[4] = moonlet.spawn_later(1, sleep, 'nor has this')\n"
         "early[5] = moonlet.Greenlet(sleep, 'not started')\n");
  lua_close(L);
  check(passed == 1);
}

/* An error in the middle of main's own wait leaves a runtime that can be closed.  Meanwhile
   the greenlet that was ready has run. */
static void after_an_error_in_main(void) {
  lua_State *L = open_counted();
  run(L, population);
  run_fails(L, "moonlet.Timeout.start_new(0.001, 'too late') call(forever)", "too late");
  run(L, "assert(count == 0)");
  moonlet_close(L);
  run(L, "assert(count == 10 and closed['not yet'] == 1)");
  close_counted(L);
}

int main(void) {
  limit_time(60);
  close_ends_every_greenlet();
  close_twice_is_nothing_new();
  close_without_greenlets();
  stubborn_greenlets_do_not_stop_it();
  closing_greenlets_cannot_block();
  a_failure_on_the_way_out_is_no_matter();
  a_closed_runtime_says_so();
  lua_close_frees_all();
  finalizers_at_the_end_are_refused();
  a_timeout_outlives_the_runtime();
  greenlets_outlive_the_runtime();
  after_an_error_in_main();
  return 0;
}
