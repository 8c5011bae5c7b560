/* Slow lookups: how many run at once, how they are given up, and what a forked child does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "support.h"

/* ---- a getaddrinfo that is as slow as the test wants ---- */

static atomic_int running, peak, ended;
static atomic_bool open_gate;

static void wait_at_gate(void) {
  int now_running = atomic_fetch_add(&running, 1) + 1, before = atomic_load(&peak);
  while (now_running > before && !atomic_compare_exchange_weak(&peak, &before, now_running))
    ;
  while (!atomic_load(&open_gate))
    usleep(500);
  atomic_fetch_sub(&running, 1);
  atomic_fetch_add(&ended, 1);
}

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* In place of the C library's: names of hosts are those of 192.0.2.1, "slow" ones in time. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **result) {
  static resolve *real;
  struct addrinfo numeric = *hints;
  if (!real)
    real = (resolve *)dlsym(RTLD_NEXT, "getaddrinfo");
  if (!host || (hints->ai_flags & AI_NUMERICHOST))
    return real(host, service, hints, result);
  if (strncmp(host, "slow", 4) == 0)
    wait_at_gate();
  numeric.ai_flags |= AI_NUMERICHOST;
  return real("192.0.2.1", service, &numeric, result);
}

/* ---- what the Lua code uses ---- */

static int l_running(lua_State *L) {
  lua_pushinteger(L, atomic_load(&running));
  return 1;
}

/* gate(open) */
static int l_gate(lua_State *L) {
  atomic_store(&open_gate, lua_toboolean(L, 1));
  return 0;
}

static int l_fork(lua_State *L) {
  fflush(NULL);
  lua_pushinteger(L, fork());
  return 1;
}

static int l_leave(lua_State *L) { _exit((int)luaL_checkinteger(L, 1)); }

/* status(pid): how the child has ended. */
static int l_status(lua_State *L) {
  int status = -1;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 1;
}

static lua_State *open_test(void) {
  lua_State *L = open_state(NULL);
  atomic_store(&open_gate, false);
  atomic_store(&peak, 0);
  atomic_store(&ended, 0);
  lua_register(L, "running", l_running);
  lua_register(L, "gate", l_gate);
  lua_register(L, "fork", l_fork);
  lua_register(L, "leave", l_leave);
  lua_register(L, "status", l_status);
  run(L, "dns = require 'moonlet.socket.dns'\n"
         "function eventually(f) while not f() do moonlet.sleep(0.001) end end\n"
         "function start(...)\n"
         "  local g = moonlet.spawn(dns.getaddrinfo, ...)\n"
         "  local before = running()\n"
         "  eventually(function() return running() > before end)\n"
         "  return g\n"
         "end\n");
  return L;
}

/* The threads must be gone before the next test counts them. */
static void close_test(lua_State *L) {
  atomic_store(&open_gate, true);
  close_state(L);
  while (atomic_load(&running) > 0)
    usleep(500);
}

static void test(const char *code) {
  lua_State *L = open_test();
  run(L, code);
  close_test(L);
}

/* ---- tests ---- */

static void test_many(void) {
  lua_State *L = open_test();
  run(L, "list = {}\n"
         "for i = 1, 30 do list[i] = moonlet.spawn(dns.getaddrinfo, 'slow' .. i) end\n"
         "eventually(function() return running() == 10 end)\n"
         "moonlet.sleep(0.01)\n"
         "for _, g in ipairs(list) do assert(not g:ready()) end\n"
         "gate(true)\n"
         "for _, g in ipairs(list) do assert(g:get()[1].addr == '192.0.2.1') end\n");
  check(atomic_load(&peak) == 10);
  check(atomic_load(&ended) == 30);
  close_test(L);
}

/* With the gate shut: each of these returns though the lookup does not. */
static void test_giving_up(void) {
  test("local infos, message = dns.getaddrinfo('slow', 0.01)\n"
       "assert(infos == nil and message == 'timeout')\n"
       "assert(select(2, dns.getaddrinfo('slow', 0)) == 'timeout')\n"
       "assert(select(2, dns.getnameinfo('slow', 'http', 0.01)) == 'timeout')\n"
       "assert(running() > 0)\n");
  test("local timeout <close> = moonlet.Timeout(0.01):start()\n"
       "local ok, err = pcall(dns.getaddrinfo, 'slow')\n"
       "assert(not ok and err == timeout and running() == 1)\n");
  test("local g = start('slow')\n"
       "assert(g:kill() and g:ready() and running() == 1)\n"
       "local co = coroutine.wrap(function() dns.getaddrinfo('slow') end)\n"
       "g = moonlet.spawn(function() table.sort({1, 2}, co) end)\n"
       "eventually(function() return running() == 2 end)\n"
       "assert(g:kill() and g:ready())\n"
       "collectgarbage()\n"
       "gate(true)\n"
       "eventually(function() return running() == 0 end)\n"
       "assert(dns.getaddrinfo('quick'))\n");
  /* those that queue are forgotten too */
  test("local list = {}\n"
       "for i = 1, 15 do list[i] = moonlet.spawn(dns.getaddrinfo, 'slow') end\n"
       "eventually(function() return running() == 10 end)\n"
       "for _, g in ipairs(list) do g:kill() end\n"
       "list = nil\n"
       "collectgarbage()\n"
       "gate(true)\n"
       "assert(dns.getaddrinfo('slow'))\n");
}

static void test_others_run(void) {
  test("local ran = 0\n"
       "local g = start('slow')\n"
       "moonlet.spawn(function() ran = ran + 1 end):join()\n"
       "assert(ran == 1 and not g:ready())\n"
       "gate(true)\n"
       "assert(g:get())\n");
}

/* The parent's ten threads are busy and not in the child, which starts its own. */
static void test_fork(void) {
  test("for i = 1, 12 do moonlet.spawn(dns.getaddrinfo, 'slow') end\n"
       "eventually(function() return running() == 10 end)\n"
       "local pid = fork()\n"
       "if pid == 0 then\n"
       "  if not dns.getaddrinfo('quick', 10) then leave(1) end\n"
       "  local g = moonlet.spawn(dns.getaddrinfo, 'quick')\n"
       "  if g:get()[1].addr ~= '192.0.2.1' then leave(2) end\n"
       "  leave(0)\n"
       "end\n"
       "assert(status(pid) == 0)\n"
       "gate(true)\n");
}

/* ---- c-ares in a forked child ---- */

/* Answers every question for an address with 192.0.2.2, and any other with nothing. */
static void *serve(void *argument) {
  static const unsigned char record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 2};
  int fd = *(int *)argument;
  unsigned char message[512 + sizeof record];
  struct sockaddr_storage from;
  for (;;) {
    socklen_t length = sizeof from;
    ssize_t size = recvfrom(fd, message, 512, 0, (struct sockaddr *)&from, &length);
    if (size < 17)
      return NULL;
    bool address = message[size - 3] == 1;
    message[2] = 0x85;
    message[3] = 0x80;
    message[7] = address;
    memcpy(message + size, record, sizeof record);
    sendto(fd, message, (size_t)size + (address ? sizeof record : 0), 0,
           (const struct sockaddr *)&from, length);
  }
}

static void test_fork_with_ares(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  pthread_t server;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  check(bind(fd, (const struct sockaddr *)&address, length) == 0);
  check(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
  check(pthread_create(&server, NULL, serve, &fd) == 0);

  lua_State *L = open_test();
  lua_pushfstring(L, "127.0.0.1:%d", ntohs(address.sin_port));
  lua_setglobal(L, "server");
  run(L, "dns.resolver = 'ares'\n"
         "dns.servers = server\n"
         "local waiting = moonlet.spawn(dns.getaddrinfo, 'one.test')\n"
         "moonlet.sleep(0)\n"
         "local early = waiting:ready()\n"
         "local pid = fork()\n"
         "if pid == 0 then\n"
         "  if (dns.toip('two.test', 10)) ~= '192.0.2.2' then leave(1) end\n"
         "  if waiting:get() and not early then leave(2) end\n"
         "  leave(0)\n"
         "end\n"
         "assert(status(pid) == 0)\n"
         "assert(waiting:get()[1].addr == '192.0.2.2')\n");
  close_test(L);
  sendto(fd, "", 1, 0, (const struct sockaddr *)&address, length);
  pthread_join(server, NULL);
  close(fd);
}

/* The modules that are not in the library are beside it. */
static void find_modules(void) {
  char path[4096] = "", *slash;
  check(readlink("/proc/self/exe", path, sizeof path - 20) > 0);
  for (int up = 0; up < 2 && (slash = strrchr(path, '/')); up++)
    *slash = 0;
  strcat(path, "/lua/?.so;;");
  setenv("LUA_CPATH", path, 1);
}

int main(void) {
  limit_time(60);
  find_modules();
  test_many();
  test_giving_up();
  test_others_run();
  test_fork();
  test_fork_with_ares();
  return 0;
}
