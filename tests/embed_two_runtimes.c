/* embed_two_runtimes.c: several runtimes in one process. */
#include <pthread.h>

#include "support.h"

/* ---- a runtime for each thread ---- */

#define THREADS 4

static const char work[] =
    "local names = {}\n"
    "local function sleeper(name)\n"
    "  for i = 1, 50 do\n"
    "    moonlet.sleep(i % 5 == 0 and 0.0005 or 0)\n"
    "    names[#names + 1] = name\n"
    "  end\n"
    "end\n"
    "local function pinner(name)\n"
    "  table.sort({3, 1, 2}, function(a, b) sleeper(name) return a < b end)\n"
    "end\n"
    "local list = {}\n"
    "for i = 1, 20 do\n"
    "  list[i] = moonlet.spawn(i % 2 == 0 and sleeper or pinner, i)\n"
    "end\n"
    "moonlet.joinall(list, nil, true)\n"
    "assert(#names >= 1000)";

static void *own_runtime(void *argument) {
  lua_State *L = open_state(NULL);
  (void)argument;
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

/* ---- several in one thread ---- */

static void one_thread_has_several(void) {
  lua_State *first = open_state(NULL), *second = open_state(NULL);
  const char *count = "n = 0\n"
                      "moonlet.spawn(function()\n"
                      "  for i = 1, 10 do moonlet.sleep(0.001) n = n + 1 end\n"
                      "end)";
  run(first, count);
  run(second, count);
  for (int i = 0; i < 5; i++) {
    moonlet_run(first, 0.002);
    moonlet_run(second, 0.002);
  }
  check(moonlet_run(first, -1) == 1 && global(first, "n") == 10);
  check(moonlet_run(second, -1) == 1 && global(second, "n") == 10);
  close_state(first);
  run(second, count);
  check(moonlet_run(second, -1) == 1 && global(second, "n") == 10);
  close_state(second);
}

/* A C function that runs another state's greenlets to their end. */
static int run_other(lua_State *L) {
  lua_State *other = lua_touserdata(L, lua_upvalueindex(1));
  run(other, "n = 0\n"
             "for i = 1, 3 do moonlet.spawn(function() moonlet.sleep(0.001) n = n + 1 end) end");
  check(moonlet_run(other, -1) == 1);
  lua_pushinteger(L, global(other, "n"));
  return 1;
}

static void one_runs_inside_another(void) {
  lua_State *outer = open_state(NULL), *inner = open_state(NULL);
  lua_pushlightuserdata(outer, inner);
  lua_pushcclosure(outer, run_other, 1);
  lua_setglobal(outer, "run_other");
  run(outer, "local function both()\n"
             "  moonlet.sleep(0)\n"
             "  local n = run_other()\n"
             "  moonlet.sleep(0.001)\n"
             "  return n\n"
             "end\n"
             "assert(both() == 3)\n"
             "local list = {}\n"
             "for i = 1, 3 do list[i] = moonlet.spawn(both) end\n"
             "for i = 1, 3 do assert(list[i]:get() == 3) end");
  close_state(outer);
  close_state(inner);
}

/* ---- another thread's state ---- */

struct intruder {
  lua_State *L;
  const char *code;
};

static void *intrude(void *argument) {
  const struct intruder *intruder = argument;
  run_fails(intruder->L, intruder->code, "belongs to another thread");
  return NULL;
}

static void fails_from_another_thread(lua_State *L, const char *code) {
  struct intruder intruder = {L, code};
  pthread_t thread;
  check(pthread_create(&thread, NULL, intrude, &intruder) == 0);
  check(pthread_join(thread, NULL) == 0);
}

static void other_threads_are_refused(void) {
  lua_State *L = open_state(NULL);
  fails_from_another_thread(L, "moonlet.sleep(0)");
  fails_from_another_thread(L, "moonlet.sleep(1)");
  fails_from_another_thread(L, "moonlet.spawn(print)");
  fails_from_another_thread(L, "moonlet.getcurrent()");
  run(L, "moonlet.spawn(function() moonlet.sleep(0) n = 1 end)");
  check(moonlet_run(L, -1) == 1 && global(L, "n") == 1);
  close_state(L);
}

/* A thread with a runtime of its own is no better. */
static void *intrude_with_runtime(void *argument) {
  lua_State *L = open_state(NULL);
  intrude(argument);
  run(L, work);
  close_state(L);
  return NULL;
}

static void other_runtimes_are_refused(void) {
  lua_State *L = open_state(NULL);
  struct intruder intruder = {L, "moonlet.sleep(0)"};
  pthread_t thread;
  check(pthread_create(&thread, NULL, intrude_with_runtime, &intruder) == 0);
  check(pthread_join(thread, NULL) == 0);
  run(L, work);
  close_state(L);
}

int main(void) {
  limit_time(60);
  threads_have_their_own();
  one_thread_has_several();
  one_runs_inside_another();
  other_threads_are_refused();
  other_runtimes_are_refused();
  return 0;
}
