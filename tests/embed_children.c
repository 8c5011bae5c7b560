/* embed_children.c: child processes in loops of the host, libev's default one among them. */
#include <ev.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "support.h"

static const char *program; /* this test's own path */

/* A state that finds the modules of the build it belongs to. */
static lua_State *open_with_modules(struct ev_loop *loop) {
  lua_State *L = open_state(loop);
  lua_pushstring(L, program);
  lua_setglobal(L, "program");
  run(L, "package.path = program:match('^(.*/)') .. '../lua/?.lua;' .. package.path");
  return L;
}

static const char programs[] =
    "local subprocess = require 'moonlet.subprocess'\n"
    "sum = 0\n"
    "for i = 1, 10 do\n"
    "  moonlet.spawn(function()\n"
    "    local code = assert(subprocess.call { args = 'sleep 0.01; exit ' .. i, shell = true })\n"
    "    assert(code == i)\n"
    "    sum = sum + code\n"
    "  end)\n"
    "end\n";

static const char forks[] = "local os_ = require 'moonlet.os'\n"
                            "forked = 0\n"
                            "moonlet.spawn(function()\n"
                            "  for i = 1, 3 do\n"
                            "    local pid = os_.fork()\n"
                            "    if pid == 0 then moonlet.sleep(0.01) os.exit(i) end\n"
                            "    local _, how, code = os_.waitpid(pid)\n"
                            "    assert(how == 'exited' and code == i)\n"
                            "    forked = forked + code\n"
                            "  end\n"
                            "end)\n";

static void forgets_children(lua_State *L) {
  run(L, "local subprocess = require 'moonlet.subprocess'\n"
         "subprocess.Popen { args = { 'true' } }\n"
         "collectgarbage() collectgarbage()\n");
}

/* The host's own children are none of ours. */
static void on_child(struct ev_loop *loop, ev_child *watcher, int revents) {
  (void)revents;
  ev_child_stop(loop, watcher);
  *(int *)watcher->data = watcher->rstatus;
}

static pid_t start_child(int code) {
  pid_t pid = fork();
  check(pid >= 0);
  if (pid == 0)
    _exit(code);
  return pid;
}

static void in_the_default_loop(void) {
  struct ev_loop *loop = ev_default_loop(0);
  check(loop != NULL);
  lua_State *L = open_with_modules(loop);
  int status = -1;
  ev_child child;
  ev_child_init(&child, on_child, start_child(42), 0);
  child.data = &status;
  ev_child_start(loop, &child);
  run(L, programs);
  run(L, forks);
  forgets_children(L);
  ev_run(loop, 0);
  check(global(L, "sum") == 55);
  check(global(L, "forked") == 6);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 42);
  run(L, "assert(require('moonlet.subprocess').call { args = { 'false' } } == 1)");
  close_state(L);
  ev_run(loop, 0);
}

static void in_another_loop_of_the_host(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  check(loop != NULL);
  lua_State *L = open_with_modules(loop);
  pid_t own = start_child(41);
  int status;
  run(L, programs);
  run(L, forks);
  forgets_children(L);
  ev_run(loop, 0);
  check(global(L, "sum") == 55);
  check(global(L, "forked") == 6);
  check(waitpid(own, &status, 0) == own && WEXITSTATUS(status) == 41);
  close_state(L);
  ev_loop_destroy(loop);
}

/* One that still runs when the runtime closes is left alone, and leaves nothing in the loop. */
static void closes_while_children_run(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  lua_State *L = open_with_modules(loop);
  run(L, "p = require('moonlet.subprocess').Popen { args = { 'sleep', '0.1' } }\n"
         "moonlet.spawn(function() p:wait() end)\n"
         "moonlet.spawn(function() moonlet.wait { p } end)\n"
         "moonlet.sleep(0)");
  close_state(L);
  check(ev_run(loop, 0) == 0);
  ev_loop_destroy(loop);
}

static void (*handler_of(int signum))(int) {
  struct sigaction action;
  check(sigaction(signum, NULL, &action) == 0);
  return action.sa_handler;
}

static void on_pipe(int signum) { (void)signum; }

/* Only where nobody handles it is SIGPIPE ignored. */
static void sigpipe_is_left_to_the_host(void) {
  signal(SIGPIPE, on_pipe);
  close_state(open_state(NULL));
  check(handler_of(SIGPIPE) == on_pipe);
  signal(SIGPIPE, SIG_DFL);
  close_state(open_state(NULL));
  check(handler_of(SIGPIPE) == SIG_IGN);
}

int main(int argc, char **argv) {
  (void)argc;
  program = argv[0];
  limit_time(60);
  sigpipe_is_left_to_the_host();
  in_another_loop_of_the_host();
  closes_while_children_run();
  in_the_default_loop();
  return 0;
}
