/* A forked child has a fresh hub in which only the greenlet lives that forked. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "moonlet.h"
#include "support.h"

/* fork() -> 0 in the child, its pid in the parent. */
static int l_fork(lua_State *L) {
  fflush(NULL);
  lua_pushinteger(L, fork());
  return 1;
}

/* leave(status): ends the child. */
static int l_leave(lua_State *L) { _exit((int)luaL_checkinteger(L, 1)); }

/* status(pid): how the child has ended; it must do so within the test's time. */
static int l_status(lua_State *L) {
  int status = -1;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 1;
}

static void test(const char *code) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  lua_register(L, "fork", l_fork);
  lua_register(L, "leave", l_leave);
  lua_register(L, "status", l_status);
  check(moonlet_open(L, NULL) == LUA_OK);
  run(L, "moonlet = require 'moonlet'");
  run(L, code);
  moonlet_close(L);
  lua_close(L);
}

int main(void) {
  alarm(30);
  /* from main: the others are gone, main goes on */
  test("local ran = 0\n"
       "local pinned = moonlet.spawn(function()\n"
       "  table.sort({1, 2}, function() moonlet.sleep(0.01) ran = ran + 1 return false end)\n"
       "end)\n"
       "local parked = moonlet.spawn(function() moonlet.sleep(0.01) ran = ran + 1 end)\n"
       "moonlet.sleep(0)\n"
       "local pid = fork()\n"
       "if pid == 0 then\n"
       "  local stats = moonlet.stats()\n"
       "  if stats.greenlets ~= 0 or stats.timers ~= 0 or stats.pinned ~= 0 then leave(1) end\n"
       "  moonlet.sleep(0.03)\n"
       "  if ran ~= 0 or not parked:ready() or not pinned:join() then leave(2) end\n"
       "  if moonlet.spawn(function() moonlet.sleep(0.001) return 42 end):get() ~= 42 then "
       "leave(3) end\n"
       "  leave(0)\n"
       "end\n"
       "assert(status(pid) == 0)\n"
       "moonlet.joinall{pinned, parked}\n"
       "assert(ran == 2)\n");
  /* from a greenlet: it is the child's main greenlet, and the process ends with it */
  test("local pid\n"
       "local g = moonlet.spawn(function()\n"
       "  pid = fork()\n"
       "  if pid == 0 then\n"
       "    if moonlet.getcurrent().name ~= 'main' then leave(1) end\n"
       "    local ok, err = pcall(require 'moonlet.event'.Event().wait, require "
       "'moonlet.event'.Event())\n"
       "    if ok or not err:is(moonlet.LoopExit) then leave(2) end\n"
       "    table.sort({1, 2}, function() moonlet.sleep(0.001) return false end)\n"
       "  end\n"
       "end)\n"
       "g:join()\n"
       "assert(status(pid) == 0)\n");
  /* an error that ends it is the child's exit status */
  test("local pid\n"
       "moonlet.set_error_handler(function() end)\n"
       "moonlet.spawn(function() pid = fork() if pid == 0 then error 'in the child' end "
       "end):join()\n"
       "assert(status(pid) == 1)\n");
  /* unless asked otherwise */
  test("moonlet.keep_at_fork(true)\n"
       "local ran = false\n"
       "local other = moonlet.spawn(function() moonlet.sleep(0.005) ran = true end)\n"
       "moonlet.sleep(0)\n"
       "local pid = fork()\n"
       "if pid == 0 then other:join() leave(ran and 0 or 1) end\n"
       "assert(status(pid) == 0)\n"
       "other:join()\n");
  return 0;
}
