/* embed_waiter.c: waiting for events of the program's own, and work in other threads. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "support.h"

/* ---- waiters, as a library would wrap them ---- */

static int l_new(lua_State *L) {
  moonlet_waiter *waiter = moonlet_waiter_new(L);
  check(waiter == lua_touserdata(L, -1));
  return 1;
}

static int l_park(lua_State *L) {
  lua_pushboolean(L, moonlet_park(lua_touserdata(L, 1), luaL_optnumber(L, 2, -1)));
  return 1;
}

static int l_unpark(lua_State *L) {
  moonlet_unpark(lua_touserdata(L, 1));
  return 0;
}

static int l_unpark_async(lua_State *L) {
  moonlet_unpark_async(lua_touserdata(L, 1));
  return 0;
}

/* Makes a waiter where it is called and parks on it. */
static int l_park_here(lua_State *L) {
  double timeout = luaL_optnumber(L, 1, -1); /* while argument 1 is the caller's */
  lua_pushboolean(L, moonlet_park(moonlet_waiter_new(L), timeout));
  return 1;
}

static int call_through(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static const luaL_Reg waiter_functions[] = {{"new", l_new},
                                            {"park", l_park},
                                            {"unpark", l_unpark},
                                            {"unpark_async", l_unpark_async},
                                            {"park_here", l_park_here},
                                            {"through", call_through},
                                            {NULL, NULL}};

static lua_State *open_test(void) {
  lua_State *L = open_state(NULL);
  lua_pushglobaltable(L);
  luaL_setfuncs(L, waiter_functions, 0);
  lua_pop(L, 1);
  return L;
}

static void unpark_wakes(void) {
  lua_State *L = open_test();
  run(L, "local w = new()\n"
         "local g = moonlet.spawn(park, w)\n"
         "moonlet.sleep(0)\n"
         "assert(not g:dead())\n"
         "unpark(w)\n"
         "assert(not g:dead() and g:get() == true)");
  run(L, "local w = new()\n"
         "moonlet.spawn(function() moonlet.sleep(0) unpark(w) end)\n"
         "assert(through(park, w) == true)");
  close_state(L);
}

/* An unpark is kept for the next park; two are no more than one. */
static void an_earlier_unpark_counts(void) {
  lua_State *L = open_test();
  for (int i = 0; i < 2; i++) {
    lua_getglobal(L, i == 0 ? "unpark" : "unpark_async");
    lua_setglobal(L, "wake");
    run(L, "local w = new()\n"
           "wake(w) wake(w)\n"
           "assert(park(w) == true)\n"
           "assert(park(w, 0) == false)\n"
           "assert(park(w, 0.001) == false)\n"
           "wake(w)\n"
           "assert(park(w, 0) == true)");
  }
  close_state(L);
}

static void one_unpark_wakes_one(void) {
  lua_State *L = open_test();
  run(L, "local w, list = new(), {}\n"
         "for i = 1, 3 do list[i] = moonlet.spawn(park, w) end\n"
         "moonlet.sleep(0)\n"
         "for i = 1, 3 do\n"
         "  unpark(w)\n"
         "  moonlet.sleep(0) moonlet.sleep(0)\n"
         "  for k = 1, 3 do assert(list[k]:dead() == (k <= i)) end\n"
         "end");
  close_state(L);
}

/* The unpark of a greenlet that is killed before it runs is not lost. */
static void an_unused_unpark_is_kept(void) {
  lua_State *L = open_test();
  run(L, "local w = new()\n"
         "local first, second = moonlet.spawn(park, w), moonlet.spawn(park, w)\n"
         "moonlet.sleep(0)\n"
         "moonlet.kill(first) unpark(w)\n"
         "moonlet.joinall {first, second}\n"
         "assert(first.value:is(moonlet.GreenletExit) and second.value == true)\n"
         "assert(park(w, 0) == false)");
  close_state(L);
}

static void errors_end_the_wait(void) {
  lua_State *L = open_test();
  run(L, "local w = new()\n"
         "for _, f in ipairs {park, park_here} do\n"
         "  local g = moonlet.spawn(f, f == park and w or nil)\n"
         "  moonlet.sleep(0)\n"
         "  assert(g:kill() and g.value:is(moonlet.GreenletExit))\n"
         "  local t = moonlet.Timeout.start_new(0.001)\n"
         "  local ok, err = pcall(f, f == park and w or nil)\n"
         "  assert(not ok and err == t)\n"
         "end");
  run(L, "local t = moonlet.Timeout.start_new(0.001)\n"
         "local co = coroutine.create(function() return pcall(park_here) end)\n"
         "local ok, caught, err = coroutine.resume(co)\n"
         "assert(ok and not caught and err == t)\n"
         "assert(coroutine.status(co) == 'dead')");
  close_state(L);
}

/* ---- from other threads ---- */

#define WAITERS 8
#define ROUNDS 200

struct waker {
  pthread_t thread;
  moonlet_waiter *waiters[WAITERS];
  atomic_int acknowledged; /* rounds seen by all greenlets */
};

static void *wake_all(void *argument) {
  struct waker *waker = argument;
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < WAITERS; i++)
      moonlet_unpark_async(waker->waiters[i]);
    while (atomic_load(&waker->acknowledged) < (round + 1) * WAITERS)
      sched_yield();
  }
  return NULL;
}

static int l_acknowledge(lua_State *L) {
  struct waker *waker = lua_touserdata(L, lua_upvalueindex(1));
  atomic_fetch_add(&waker->acknowledged, 1);
  return 0;
}

/* No wake-up is lost, whether it comes before the greenlet parks or after. */
static void threads_wake(void) {
  lua_State *L = open_test();
  struct waker waker = {.acknowledged = 0};
  lua_pushlightuserdata(L, &waker);
  lua_pushcclosure(L, l_acknowledge, 1);
  lua_setglobal(L, "acknowledge");
  lua_createtable(L, WAITERS, 0);
  for (int i = 0; i < WAITERS; i++) {
    waker.waiters[i] = moonlet_waiter_new(L);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setglobal(L, "waiters");
  lua_pushinteger(L, ROUNDS);
  lua_setglobal(L, "rounds");
  check(pthread_create(&waker.thread, NULL, wake_all, &waker) == 0);
  run(L, "local list = {}\n"
         "for i, w in ipairs(waiters) do\n"
         "  list[i] = moonlet.spawn(function()\n"
         "    for round = 1, rounds do\n"
         "      assert(park(w, 30))\n"
         "      acknowledge()\n"
         "      if round % 3 == 0 then moonlet.sleep(0) end\n"
         "    end\n"
         "  end)\n"
         "end\n"
         "moonlet.joinall(list, nil, true)");
  check(pthread_join(waker.thread, NULL) == 0);
  close_state(L);
}

static void *wake_later(void *waiter) {
  usleep(20000);
  moonlet_unpark_async(waiter);
  return NULL;
}

/* A parked greenlet keeps main from LoopExit, and moonlet_run from ending. */
static void a_parked_greenlet_is_something_to_wait_for(void) {
  lua_State *L = open_test();
  pthread_t thread;
  moonlet_waiter *waiter = moonlet_waiter_new(L);
  lua_setglobal(L, "w");
  check(pthread_create(&thread, NULL, wake_later, waiter) == 0);
  run(L, "assert(park(w))");
  check(pthread_join(thread, NULL) == 0);
  check(pthread_create(&thread, NULL, wake_later, waiter) == 0);
  run(L, "g = moonlet.spawn(park, w)");
  check(moonlet_run(L, -1) == 1);
  run(L, "assert(g.value == true)");
  check(pthread_join(thread, NULL) == 0);
  run(L, "assert(not pcall(require 'moonlet.event'.Event().wait, nil))");
  close_state(L);
}

static void *wake_often(void *waiter) {
  for (int i = 0; i < 1000; i++)
    moonlet_unpark_async(waiter);
  return NULL;
}

/* The runtime ends while a thread still announces things. */
static void late_wake_ups_do_no_harm(void) {
  for (int round = 0; round < 20; round++) {
    lua_State *L = open_test();
    pthread_t thread;
    moonlet_waiter *waiter = moonlet_waiter_new(L);
    lua_setglobal(L, "w");
    run(L, "moonlet.spawn(park, w) moonlet.spawn(park, w) moonlet.sleep(0)");
    check(pthread_create(&thread, NULL, wake_often, waiter) == 0);
    if (round % 2)
      moonlet_close(L);
    else
      run(L, "moonlet.sleep(0)");
    check(pthread_join(thread, NULL) == 0);
    lua_close(L);
  }
}

/* ---- offloaded work ---- */

struct task {
  double seconds;
  pthread_t thread;
  int signals; /* blocked in the thread */
  atomic_int done;
};

static atomic_int at_work, most_at_work;

static void work(void *argument) {
  struct task *task = argument;
  int count = atomic_fetch_add(&at_work, 1) + 1, most = atomic_load(&most_at_work);
  while (count > most && !atomic_compare_exchange_weak(&most_at_work, &most, count))
    ;
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, NULL, &blocked);
  task->signals = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGCHLD);
  task->thread = pthread_self();
  usleep((useconds_t)(task->seconds * 1e6));
  atomic_fetch_sub(&at_work, 1);
  atomic_store(&task->done, 1);
}

/* offload(seconds): has a thread wait so long; raises if that was not done properly. */
static int l_offload(lua_State *L) {
  struct task task = {.seconds = luaL_checknumber(L, 1)};
  int failure = moonlet_offload(L, work, &task);
  check(failure == 0 && atomic_load(&task.done));
  check(!pthread_equal(task.thread, pthread_self()) && task.signals);
  return 0;
}

static lua_State *open_offload(void) {
  lua_State *L = open_test();
  lua_register(L, "offload", l_offload);
  atomic_store(&most_at_work, 0);
  return L;
}

static void work_is_done_meanwhile(void) {
  lua_State *L = open_offload();
  run(L, "turns = 0\n"
         "local ticker = moonlet.spawn(function()\n"
         "  while true do moonlet.sleep(0.001) turns = turns + 1 end\n"
         "end)\n"
         "offload(0.05)\n"
         "assert(turns > 5, turns)\n"
         "ticker:kill()\n"
         "offload(0)\n"
         "through(offload, 0)\n"
         "coroutine.wrap(offload)(0)");
  close_state(L);
}

/* Ten at once; the eleventh waits for a thread. */
static void several_work_at_once(void) {
  lua_State *L = open_offload();
  run(L, "local list = {}\n"
         "for i = 1, 25 do list[i] = moonlet.spawn(offload, 0.02) end\n"
         "moonlet.joinall(list, nil, true)");
  check(atomic_load(&most_at_work) > 1 && atomic_load(&most_at_work) <= 10);
  check(atomic_load(&at_work) == 0);
  close_state(L);
}

/* The work lives in the caller's frame: an error may not end the call before it. */
static void interrupts_wait_for_the_end(void) {
  lua_State *L = open_offload();
  run(L, "local g = moonlet.spawn(function() offload(0.03) survived = true end)\n"
         "moonlet.sleep(0)\n"
         "assert(g:kill(nil, 0.001) == false)\n"
         "assert(g:join() and g.value:is(moonlet.GreenletExit) and not survived)");
  check(atomic_load(&at_work) == 0);
  run(L, "local t = moonlet.Timeout.start_new(0.001)\n"
         "local ok, err = pcall(offload, 0.03)\n"
         "assert(not ok and err == t)");
  check(atomic_load(&at_work) == 0);
  run(L, "assert(not pcall(moonlet.shield, function() error 'oops' end))\n"
         "local g = moonlet.spawn(function() moonlet.shield(offload, 0.01) survived = true end)\n"
         "moonlet.sleep(0)\n"
         "g:kill()\n"
         "assert(not survived)");
  close_state(L);
}

/* Neither way of closing leaves work running, or a thread behind. */
static void closing_waits_for_the_work(void) {
  for (int round = 0; round < 2; round++) {
    lua_State *L = open_offload();
    run(L, "for i = 1, 12 do\n"
           "  moonlet.spawn(function()\n"
           "    local guard <close> = setmetatable({}, {__close = function() end})\n"
           "    offload(0.02)\n"
           "  end)\n"
           "end\n"
           "moonlet.sleep(0) moonlet.sleep(0.001)");
    if (round == 0)
      moonlet_close(L);
    lua_close(L);
    check(atomic_load(&at_work) == 0);
  }
}

int main(void) {
  limit_time(60);
  unpark_wakes();
  an_earlier_unpark_counts();
  one_unpark_wakes_one();
  an_unused_unpark_is_kept();
  errors_end_the_wait();
  threads_wake();
  a_parked_greenlet_is_something_to_wait_for();
  late_wake_ups_do_no_harm();
  work_is_done_meanwhile();
  several_work_at_once();
  interrupts_wait_for_the_end();
  closing_waits_for_the_work();
  return 0;
}
