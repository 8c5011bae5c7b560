/* oom.c: running out of memory and of C stacks is an error, never a crash. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "support.h"

/* ---- an allocator that fails ---- */

/* Requests for more memory are counted; `failures` of them fail, beginning with the first-th. */
struct memory {
  bool armed;
  long count, first, failures;
  size_t bytes;
};

static void *allocate(void *argument, void *block, size_t before, size_t after) {
  struct memory *memory = argument;
  before = block ? before : 0;
  if (memory->armed && after > before) {
    long since = ++memory->count - memory->first;
    if (since >= 0 && since < memory->failures)
      return NULL;
  }
  memory->bytes += after - before;
  if (after > 0)
    return realloc(block, after);
  free(block);
  return NULL;
}

/* ---- what is done while it fails ---- */

/* call(f, ...): calls f without a continuation, so that nothing in it can yield. */
static int l_call(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int l_check(lua_State *L) {
  check(lua_toboolean(L, 1));
  return 0;
}

static const char prelude[] = "moonlet = require 'moonlet'\n"
                              "moonlet.set_error_handler(function() end)\n"
                              "event = require 'moonlet.event'\n"
                              "queue = require 'moonlet.queue'\n";

/* Each part may fail for itself. */
static const char *const program[] = {
    "list = {}\n"
    "for i = 1, 3 do list[i] = moonlet.spawn(function(...) return ... end, i, i) end\n"
    "moonlet.joinall(list)\n",
    "local g = moonlet.spawn(moonlet.sleep, 3600)\n"
    "moonlet.sleep(0)\n"
    "g:kill()\n",
    "local g = moonlet.spawn(call, moonlet.sleep, 3600)\n"
    "moonlet.sleep(0)\n"
    "g:kill()\n",
    "table.sort({2, 1}, function() moonlet.sleep(0) return false end)\n",
    "moonlet.with_timeout(0.00001, moonlet.sleep, 3600)\n",
    "local t <close> = moonlet.Timeout.start_new(0.00001)\n"
    "pcall(call, moonlet.sleep, 3600)\n",
    "local g = moonlet.spawn(error, {})\n"
    "pcall(g.get, g)\n",
    "local e = event.Event()\n"
    "local g = moonlet.spawn(function()\n"
    "  local guard <close> = setmetatable({}, {__close = function() moonlet.sleep(0) end})\n"
    "  e:wait()\n"
    "  error 'oops'\n"
    "end)\n"
    "moonlet.sleep(0)\n"
    "e:set()\n"
    "g:join()\n",
    "coroutine.wrap(function() moonlet.sleep(0) coroutine.yield() end)()\n",
    /* A put that fails leaves the queue as it was: what is in comes out, in order. */
    "for _, class in ipairs {queue.Queue, queue.PriorityQueue} do\n"
    "  local q, model, count = class(nil, {0}, function() return false end), {}, 0\n"
    "  q:get()\n"
    "  for i = 1, 50 do model[i] = 0 end\n"
    "  for i = 1, 50 do\n"
    "    local item = i < 20 and i or i % 2 == 0 and far or model\n"
    "    if pcall(q.put, q, item) then\n"
    "      count = count + 1\n"
    "      model[count] = item\n"
    "    end\n"
    "    check(#q == count)\n"
    "  end\n"
    "  for i = 1, count do check(q:get() == model[i]) end\n"
    "end\n",
    "left = moonlet.spawn(moonlet.sleep, 3600)\n"
    "pinned = moonlet.spawn(call, moonlet.sleep, 3600)\n"
    "moonlet.sleep(0)\n",
};

static int l_prepare(lua_State *L) {
  luaL_openlibs(L);
  lua_register(L, "call", l_call);
  lua_register(L, "check", l_check);
  lua_pushlightuserdata(L, (void *)UINTPTR_MAX);
  lua_setglobal(L, "far"); /* no address of the usual */
  return 0;
}

/* Loads and runs the chunk that is given as a light userdata. */
static int l_run(lua_State *L) {
  const char *code = lua_touserdata(L, 1);
  luaL_loadstring(L, code);
  lua_call(L, 0, 0);
  return 0;
}

/* Succeeds or not; but an error must have one value. */
static void try_to_run(lua_State *L, const char *code) {
  int top = lua_gettop(L);
  lua_pushcfunction(L, l_run);
  lua_pushlightuserdata(L, (void *)code);
  int status = lua_pcall(L, 1, 0, 0);
  check(lua_gettop(L) == top + (status != LUA_OK));
  lua_settop(L, top);
}

static lua_State *prepare(struct memory *memory) {
  lua_State *L = lua_newstate(allocate, memory);
  check(L != NULL);
  lua_pushcfunction(L, l_prepare);
  check(lua_pcall(L, 0, 0, 0) == LUA_OK);
  return L;
}

/* Memory fails while the runtime opens; afterwards it can be opened, or says why not. */
static bool open_failing(long first, long failures) {
  struct memory memory = {.first = first, .failures = failures};
  lua_State *L = prepare(&memory);
  memory.armed = true;
  int status = moonlet_open(L, NULL);
  bool reached = memory.count >= first;
  if (status != LUA_OK)
    check(lua_type(L, -1) == LUA_TSTRING);
  memory.armed = false;
  lua_settop(L, 0);
  if (moonlet_open(L, NULL) == LUA_OK) {
    run(L, prelude);
    run(L, program[0]);
  }
  moonlet_close(L);
  lua_close(L);
  check(memory.bytes == 0);
  return reached;
}

/* Memory fails while greenlets run, and where it goes on failing also at the end. */
static bool run_failing_memory(long first, long failures) {
  struct memory memory = {.first = first, .failures = failures};
  lua_State *L = prepare(&memory);
  check(moonlet_open(L, NULL) == LUA_OK);
  run(L, prelude);
  memory.armed = true;
  for (size_t i = 0; i < sizeof program / sizeof *program; i++)
    try_to_run(L, program[i]);
  bool reached = memory.count >= first;
  moonlet_close(L);
  lua_close(L);
  check(memory.bytes == 0);
  return reached;
}

/* One failure is mended by a collection and two are not; or there is no memory any more. */
static void memory_may_fail_anywhere(bool (*once)(long, long)) {
  static const long failures[] = {1, 2, 10, 1000000000};
  for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
    long first = 1;
    while (once(first, failures[i]))
      first++;
    check(first > 20);
  }
}

/* ---- C stacks ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(MOONLET_VALGRIND)

/* Without address space for another C stack a pinned wait fails, and nothing else does. */
static void stacks_may_run_out(void) {
  struct rlimit before, tight;
  lua_State *L = open_state(NULL);
  lua_register(L, "call", l_call);
  run(L, "moonlet.set_error_handler(function(g, err) message = tostring(err) end)\n"
         "list = {}\n"
         "for i = 1, 300 do list[i] = moonlet.spawn(call, moonlet.sleep, 0.02) end\n"
         "light = moonlet.spawn(moonlet.sleep, 0.01)");
  check(getrlimit(RLIMIT_AS, &before) == 0);
  tight = before;
  tight.rlim_cur = (rlim_t)512 << 20;
  check(setrlimit(RLIMIT_AS, &tight) == 0);
  run(L, "moonlet.joinall(list)\n"
         "local failed = 0\n"
         "for _, g in ipairs(list) do failed = failed + (g:successful() and 0 or 1) end\n"
         "assert(failed > 0 and failed < #list, failed)\n"
         "assert(light:successful())\n"
         "assert(message:find('cannot map a C stack for Greenlet', 1, true), message)");
  check(setrlimit(RLIMIT_AS, &before) == 0);
  run(L, "call(moonlet.sleep, 0.001)\n"
         "for i = 1, 300 do list[i] = moonlet.spawn(call, moonlet.sleep, 0.001) end\n"
         "moonlet.joinall(list, nil, true)");
  close_state(L);
}

#else
static void stacks_may_run_out(void) {} /* their address space is not ours to limit */
#endif

int main(void) {
  limit_time(110);
  memory_may_fail_anywhere(open_failing);
  memory_may_fail_anywhere(run_failing_memory);
  stacks_may_run_out();
  return 0;
}
