/* ssl_threads.c: TLS in the runtimes of several threads, and of a forked child. */
/* shared-library: beside it the modules are found */
#include <pthread.h>
#include <sys/wait.h>

#include "support.h"

#define THREADS 4

static char folder[256]; /* of the certificates */

static void make_certificates(void) {
  lua_State *L = new_state();
  run(L, "local certificates = dofile 'spec/support/certificates.lua'\n"
         "folder = certificates.folder()\n"
         "folder:root 'ca'\n"
         "folder:issue('server', { names = 'DNS:server' })\n"
         "path = folder.path");
  lua_getglobal(L, "path");
  snprintf(folder, sizeof folder, "%s", lua_tostring(L, -1));
  lua_close(L);
}

static void remove_certificates(void) {
  char command[300];
  snprintf(command, sizeof command, "rm -r '%s'", folder);
  check(system(command) == 0);
}

static const char work[] =
    "local socket, ssl = require 'moonlet.socket', require 'moonlet.ssl'\n"
    "local server = assert(ssl.newcontext { mode = 'server', certificate = folder .. "
    "'/server.pem',\n"
    "                                       key = folder .. '/server.key' })\n"
    "local client = assert(ssl.newcontext { mode = 'client', cafile = folder .. '/ca.pem' })\n"
    "local data = ('x'):rep(100000)\n"
    "for _ = 1, 10 do\n"
    "  local a, b = socket.socketpair()\n"
    "  a, b = assert(ssl.wrap(a, server)), assert(ssl.wrap(b, client))\n"
    "  b:sni 'server'\n"
    "  local sender = moonlet.spawn(function() assert(a:send(data)) a:close() end)\n"
    "  assert(b:receive '*a' == data)\n"
    "  sender:get()\n"
    "  a, b = socket.socketpair()\n"
    "  a, b = assert(ssl.wrap(a, server)), assert(ssl.wrap(b, client))\n"
    "  b:sni 'another'\n"
    "  moonlet.spawn(a.dohandshake, a)\n"
    "  assert(select(2, b:dohandshake()):find \"not for 'another'\")\n"
    "  b:close()\n"
    "end";

static void *own_runtime(void *argument) {
  lua_State *L = open_state(NULL);
  (void)argument;
  lua_pushstring(L, folder);
  lua_setglobal(L, "folder");
  run(L, work);
  close_state(L);
  return NULL;
}

static void threads_have_their_own(void) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    check(pthread_create(&threads[i], NULL, own_runtime, NULL) == 0);
  for (int i = 0; i < THREADS; i++)
    check(pthread_join(threads[i], NULL) == 0);
}

static void a_child_has_its_own(void) {
  pid_t child = fork();
  if (child == 0) {
    own_runtime(NULL);
    _exit(0);
  }
  int status;
  check(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
  limit_time(60);
  make_certificates();
  threads_have_their_own();
  a_child_has_its_own();
  remove_certificates();
  return 0;
}
