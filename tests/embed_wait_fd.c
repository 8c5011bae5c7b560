/* embed_wait_fd.c: C functions that wait for descriptors, wherever they are called. */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "support.h"

static int ends[2]; /* a socket pair, fresh for each test */

/* wait(fd, events, timeout): the events that are there. */
static int l_wait(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1), events = (int)luaL_checkinteger(L, 2);
  lua_pushinteger(L, moonlet_wait_fd(L, fd, events, luaL_optnumber(L, 3, -1)));
  return 1;
}

/* read(fd): a byte, waiting for it as a library would: try, wait, try again. */
static int l_read(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  char byte;
  ssize_t got;
  while ((got = read(fd, &byte, 1)) < 0 && errno == EAGAIN)
    moonlet_wait_fd(L, fd, EV_READ, -1);
  lua_pushlstring(L, &byte, got > 0 ? 1 : 0);
  return 1;
}

/* The same without holding a C stack while it waits. */
static int read_ready(lua_State *L, int status, lua_KContext fd) {
  char byte;
  check(status == LUA_OK || status == LUA_YIELD);
  ssize_t got = read((int)fd, &byte, 1);
  if (got < 0 && errno == EAGAIN) {
    lua_settop(L, 1);
    return moonlet_wait_fdk(L, (int)fd, EV_READ, -1, fd, read_ready);
  }
  lua_pushlstring(L, &byte, got > 0 ? 1 : 0);
  return 1;
}

static int l_readk(lua_State *L) { return read_ready(L, LUA_OK, luaL_checkinteger(L, 1)); }

/* waitk(fd, events, timeout, tag): the events, the tag and what the stack looked like. */
static int waited(lua_State *L, int status, lua_KContext tag) {
  check(status == LUA_OK || status == LUA_YIELD);
  lua_pushinteger(L, tag);
  lua_pushinteger(L, lua_gettop(L));
  return 3;
}

static int l_waitk(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1), events = (int)luaL_checkinteger(L, 2);
  lua_KContext tag = luaL_checkinteger(L, 4);
  return moonlet_wait_fdk(L, fd, events, luaL_checknumber(L, 3), tag, waited);
}

static int l_write(lua_State *L) {
  size_t length;
  const char *data = luaL_checklstring(L, 2, &length);
  check(write((int)luaL_checkinteger(L, 1), data, length) == (ssize_t)length);
  return 0;
}

static int l_close(lua_State *L) {
  check(close((int)luaL_checkinteger(L, 1)) == 0);
  return 0;
}

/* Calls without a continuation: what is below cannot yield. */
static int call_through(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* A state with these functions and a, b, the two ends. */
static lua_State *open_test(void) {
  static const luaL_Reg functions[] = {
      {"wait", l_wait},   {"read", l_read},   {"readk", l_readk},        {"waitk", l_waitk},
      {"write", l_write}, {"close", l_close}, {"through", call_through}, {NULL, NULL}};
  lua_State *L = open_state(NULL);
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  lua_pushglobaltable(L);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
  for (int i = 0; i < 2; i++) {
    lua_pushinteger(L, ends[i]);
    lua_setglobal(L, i == 0 ? "a" : "b");
  }
  run(L, "READ, WRITE = 1, 2\n"
         "function pinned() return moonlet.stats().pinned end\n"
         "local stats = moonlet.stats()\n"
         "watchers = stats.watchers");
  return L;
}

/* Nothing may be left of any wait. */
static void close_test(lua_State *L) {
  run(L, "assert(moonlet.stats().watchers == watchers)\n"
         "assert(moonlet.stats().timers == 0)");
  close_state(L);
  close(ends[0]);
  close(ends[1]);
}

/* ---- waiting ---- */

static void tells_what_is_ready(void) {
  lua_State *L = open_test();
  run(L, "assert(wait(a, WRITE) == WRITE)\n"
         "assert(wait(a, READ | WRITE) == WRITE)\n"
         "write(b, 'x')\n"
         "assert(wait(a, READ) == READ)\n"
         "assert(wait(a, READ | WRITE) == READ | WRITE)\n"
         "assert(read(a) == 'x')");
  close_test(L);
}

/* The same wait at every kind of place. */
static void waits_anywhere(void) {
  lua_State *L = open_test();
  run(L, "local places = {\n"
         "  function(f) return f() end,\n"
         "  function(f) return through(f) end,\n"
         "  function(f) return through(through, through, pcall, f) end,\n"
         "  function(f) local v table.sort({1, 2}, function() v = v or f() end) return v end,\n"
         "  function(f) return (('x'):gsub('x', f)) end,\n"
         "  function(f) return setmetatable({}, {__index = f}).field end,\n"
         "  function(f) return coroutine.wrap(function() return f() end)() end,\n"
         "  function(f) return through(coroutine.wrap(function() return through(f) end)) end,\n"
         "}\n"
         "for i, place in ipairs(places) do\n"
         "  for _, reader in ipairs {read, readk} do\n"
         "    for _, start in ipairs {function(f) return f() end,\n"
         "                            function(f) return moonlet.spawn(f):get() end} do\n"
         "      moonlet.spawn(function() moonlet.sleep(0) moonlet.sleep(0) write(b, 'y') end)\n"
         "      local one, two = start(function()\n"
         "        return place(function() return reader(a) end)\n"
         "      end)\n"
         "      assert(one == 'y' or two == 'y', i)\n"
         "    end\n"
         "  end\n"
         "end");
  close_test(L);
}

static void holds_a_stack_only_where_it_must(void) {
  lua_State *L = open_test();
  run(L, "local light = moonlet.spawn(readk, a)\n"
         "moonlet.sleep(0)\n"
         "assert(pinned() == 0, pinned())\n"
         "write(b, '1') assert(light:get() == '1')\n"
         "local heavy = moonlet.spawn(through, readk, a)\n"
         "moonlet.sleep(0)\n"
         "assert(pinned() == 1, pinned())\n"
         "write(b, '2') assert(heavy:get() == '2')\n"
         "heavy = moonlet.spawn(read, a)\n"
         "moonlet.sleep(0)\n"
         "assert(pinned() == 1, pinned())\n"
         "write(b, '3') assert(heavy:get() == '3')");
  close_test(L);
}

static void several_wait_for_one(void) {
  lua_State *L = open_test();
  run(L, "local list = {}\n"
         "for i = 1, 3 do\n"
         "  list[i] = moonlet.spawn(i == 2 and wait or waitk, a, READ, -1, 0)\n"
         "end\n"
         "local writer = moonlet.spawn(wait, a, WRITE)\n"
         "assert(writer:get() == WRITE)\n"
         "for i = 1, 3 do assert(not list[i]:dead()) end\n"
         "write(b, 'x')\n"
         "for i = 1, 3 do assert(list[i]:get() == READ) end");
  close_test(L);
}

/* The stack of a continuation is that of the call, with the events on top. */
static void continuations_find_their_stack(void) {
  lua_State *L = open_test();
  run(L, "local events, tag, top = waitk(a, WRITE, -1, 42)\n"
         "assert(events == WRITE and tag == 42 and top == 6, top)\n"
         "local g = moonlet.spawn(waitk, a, READ, -1, 43)\n"
         "moonlet.sleep(0)\n"
         "write(b, 'x')\n"
         "events, tag, top = g:get()\n"
         "assert(events == READ and tag == 43 and top == 6, top)");
  close_test(L);
}

/* ---- not for ever ---- */

static void gives_up_at_the_timeout(void) {
  lua_State *L = open_test();
  run(L, "assert(wait(a, READ, 0.001) == 0)\n"
         "assert(through(wait, a, READ, 0.001) == 0)\n"
         "assert(waitk(a, READ, 0.001, 0) == 0)\n"
         "assert(moonlet.spawn(waitk, a, READ, 0.001, 0):get() == 0)");
  close_test(L);
}

static void timeout_zero_only_looks(void) {
  lua_State *L = open_test();
  run(L, "assert(wait(a, READ, 0) == 0 and waitk(a, READ, 0, 0) == 0)\n"
         "assert(wait(a, WRITE, 0) == WRITE and waitk(a, WRITE, 0, 0) == WRITE)\n"
         "write(b, 'x')\n"
         "assert(wait(a, READ | WRITE, 0) == READ | WRITE)");
  close_test(L);
}

static void kills_and_timeouts_end_it(void) {
  lua_State *L = open_test();
  run(L, "for _, f in ipairs {read, readk} do\n"
         "  for _, way in ipairs {function(...) return f(...) end,\n"
         "                        function(...) return through(f, ...) end} do\n"
         "    local g = moonlet.spawn(way, a)\n"
         "    moonlet.sleep(0)\n"
         "    assert(g:kill() and g.value:is(moonlet.GreenletExit))\n"
         "    local t = moonlet.Timeout.start_new(0.001)\n"
         "    local ok, err = pcall(way, a)\n"
         "    assert(not ok and err == t)\n"
         "  end\n"
         "end\n"
         "write(b, 'x')\n"
         "assert(read(a) == 'x')");
  close_test(L);
}

static void the_end_of_the_stream_is_readable(void) {
  lua_State *L = open_test();
  run(L, "local g = moonlet.spawn(readk, a)\n"
         "moonlet.sleep(0)");
  check(shutdown(ends[1], SHUT_WR) == 0);
  run(L, "assert(wait(a, READ) == READ and read(a) == '')");
  check(moonlet_run(L, -1) == 1);
  close_test(L);
}

/* ---- misuse ---- */

static void closed_descriptors_are_errors(void) {
  lua_State *L = open_test();
  int unused = fcntl(ends[0], F_DUPFD, 100);
  check(close(unused) == 0);
  lua_pushinteger(L, unused);
  lua_setglobal(L, "unused");
  run_fails(L, "wait(unused, READ)", "not open");
  run_fails(L, "wait(-1, READ)", "not open");
  run_fails(L, "waitk(unused, READ, -1, 0)", "not open");
  run_fails(L, "through(wait, unused, READ, 0.001)", "not open");
  run_fails(L, "wait(a, 0)", "EV_READ");
  run_fails(L, "wait(a, 4)", "EV_READ");
  close_test(L);
}

/* Closed before the loop has seen it, so that libev would end the process over it. */
static void closed_at_once_is_an_error(void) {
  lua_State *L = open_test();
  run(L, "moonlet.set_error_handler(function() end)\n"
         "local one, two = moonlet.spawn(read, a), moonlet.spawn(readk, a)\n"
         "moonlet.spawn(close, a)\n"
         "moonlet.joinall {one, two}\n"
         "assert(tostring(one.exception):find('not open'), one.exception)\n"
         "assert(tostring(two.exception):find('not open'), two.exception)");
  check(dup2(ends[1], ends[0]) == ends[0]);
  close_test(L);
}

/* The number of a closed descriptor is used again: waits are for the new one. */
static void numbers_may_be_used_again(void) {
  lua_State *L = open_test();
  for (int round = 0; round < 3; round++) {
    run(L, "local g = moonlet.spawn(readk, a)\n"
           "moonlet.sleep(0)\n"
           "moonlet.sleep(0.001)\n"
           "g:kill()\n"
           "close(a) close(b)");
    int again[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, again) == 0);
    check(again[0] == ends[0] && again[1] == ends[1]);
    run(L, "local g = moonlet.spawn(readk, a)\n"
           "moonlet.sleep(0)\n"
           "write(b, 'n')\n"
           "assert(g:get() == 'n')");
  }
  close_test(L);
}

int main(void) {
  limit_time(60);
  tells_what_is_ready();
  waits_anywhere();
  holds_a_stack_only_where_it_must();
  several_wait_for_one();
  continuations_find_their_stack();
  gives_up_at_the_timeout();
  timeout_zero_only_looks();
  kills_and_timeouts_end_it();
  the_end_of_the_stream_is_readable();
  closed_descriptors_are_errors();
  closed_at_once_is_an_error();
  numbers_may_be_used_again();
  return 0;
}
