/* Pools of threads and of processes in a program that is no interpreter, which forks. */
#include <ev.h>
#include <sys/wait.h>

#include "support.h"

/* fork() -> 0 in the child, its pid in the parent. */
static int l_fork(lua_State *L) {
  fflush(NULL);
  lua_pushinteger(L, fork());
  return 1;
}

static int l_getpid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

/* leave(status): ends the child. */
static int l_leave(lua_State *L) { _exit((int)luaL_checkinteger(L, 1)); }

/* status(pid): how the child has ended. */
static int l_status(lua_State *L) {
  int status = -1;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 1;
}

/* Modules in Lua are beside the command that is tested. */
static const char prelude[] =
    "local build = (os.getenv('MOONLET') or 'build/moonlet'):match('^(.*)/')\n"
    "package.path = build .. '/lua/?.lua;' .. package.path\n"
    "threads = require('moonlet.threadpool').ThreadPool(2)\n"
    "processes = require('moonlet.processpool').Pool(2)\n"
    "function double(n) return 2 * n end\n"
    "function nap(n) require('moonlet').sleep(n) return 'slept' end\n"
    "function process() return getpid() end\n";

static lua_State *open_pools(struct ev_loop *loop) {
  lua_State *L = open_state(loop);
  lua_register(L, "fork", l_fork);
  lua_register(L, "getpid", l_getpid);
  lua_register(L, "leave", l_leave);
  lua_register(L, "status", l_status);
  run(L, prelude);
  return L;
}

static int thread_count(void) {
  char line[256];
  int count = 0;
  FILE *file = fopen("/proc/self/status", "r");
  check(file != NULL);
  while (fgets(line, sizeof line, file))
    sscanf(line, "Threads: %d", &count);
  fclose(file);
  return count;
}

/* The tasks are the parent's; the child's pools are new ones, of the same sizes. */
static void a_forked_child_has_workers_of_its_own(void) {
  lua_State *L = open_pools(NULL);
  run(L, "local worker = processes:apply(process)\n"
         "assert(threads:apply(double, {1}) == 2 and worker ~= getpid())\n"
         "local in_thread = threads:spawn(nap, 0.1)\n"
         "local in_process = processes:spawn(nap, 0.1)\n"
         "moonlet.sleep(0.01)\n"
         "local pid = fork()\n"
         "if pid == 0 then\n"
         "  local ok, err = pcall(function()\n"
         "    assert(threads:join(0) and processes:join(0), 'tasks of the parent')\n"
         "    assert(threads:free_count() == 3 and processes.size == 0, 'workers of the parent')\n"
         "    assert(threads:apply(double, {2}) == 4, 'threads')\n"
         "    local fresh = processes:apply(process)\n"
         "    assert(fresh ~= worker and fresh ~= getpid(), 'processes')\n"
         "    collectgarbage()\n"
         "    assert(#threads:map(double, {1, 2, 3, 4}) == 4, 'after a collection')\n"
         "  end)\n"
         "  if not ok then io.stderr:write(tostring(err), '\\n') end\n"
         "  leave(ok and 0 or 1)\n"
         "end\n"
         "assert(status(pid) == 0)\n"
         "assert(in_thread:get() == 'slept' and in_process:get() == 'slept')\n"
         "assert(processes:apply(process) == worker)\n");
  close_state(L);
}

/* A state closes while its tasks run: nobody waits for them, and what they hold is freed. */
static void closing_leaves_tasks_to_their_threads(void) {
  int before = thread_count();
  for (int explicitly = 0; explicitly < 2; explicitly++) {
    lua_State *L = open_pools(NULL);
    run(L, "for i = 1, 2 do threads:spawn(nap, 0.2) end\n"
           "threads:spawn(double, 1)\n"
           "processes:spawn(nap, 3600)\n"
           "moonlet.sleep(0.01)\n");
    check(thread_count() >= before + 2);
    if (explicitly)
      moonlet_close(L);
    lua_close(L);
    check(thread_count() >= before + 2);
  }
  while (thread_count() > before)
    usleep(1000);
}

/* The host's loop goes on after the state has gone, and knows nothing of its workers. */
static void a_hosts_loop_outlives_them(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  lua_State *L = open_pools(loop);
  run(L, "assert(#processes:map(double, {1, 2, 3}) == 3)\n"
         "assert(#threads:map(double, {1, 2, 3}) == 3)\n"
         "processes:spawn(nap, 3600)\n");
  ev_run(loop, EVRUN_NOWAIT);
  close_state(L);
  ev_run(loop, EVRUN_NOWAIT);
  ev_loop_destroy(loop);
}

/* Idle workers keep nobody waiting. */
static void idle_workers_do_not_keep_the_loop_alive(void) {
  lua_State *L = open_pools(NULL);
  run(L, "threads:apply(double, {1}) processes:apply(double, {1})\n"
         "assert(moonlet.wait())\n"
         "local event = require('moonlet.event').Event()\n"
         "local ok, err = pcall(event.wait, event)\n"
         "assert(not ok and err:is(moonlet.LoopExit))\n");
  close_state(L);
}

int main(void) {
  limit_time(60);
  a_forked_child_has_workers_of_its_own();
  closing_leaves_tasks_to_their_threads();
  a_hosts_loop_outlives_them();
  idle_workers_do_not_keep_the_loop_alive();
  return 0;
}
