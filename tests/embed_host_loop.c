/* embed_host_loop.c: greenlets inside an event loop that the host runs. */
#include <ev.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "support.h"

struct host {
  lua_State *L;
  struct ev_loop *loop;
  ev_timer ticker;
  int ticks, wanted; /* the ticker stops by itself after so many */
  const char *code;  /* to be run in a callback */
  bool ran, failed;  /* that */
};

static void on_tick(struct ev_loop *loop, ev_timer *watcher, int revents) {
  struct host *host = watcher->data;
  (void)revents;
  if (++host->ticks >= host->wanted)
    ev_timer_stop(loop, watcher);
}

static void start_ticker(struct host *host, int wanted) {
  host->ticks = 0;
  host->wanted = wanted;
  ev_timer_init(&host->ticker, on_tick, 0.001, 0.001);
  host->ticker.data = host;
  ev_timer_start(host->loop, &host->ticker);
}

static void open_host(struct host *host) {
  *host = (struct host){.loop = ev_loop_new(EVFLAG_AUTO)};
  check(host->loop != NULL);
  host->L = open_state(host->loop);
}

static void close_host(struct host *host) {
  close_state(host->L);
  ev_loop_destroy(host->loop);
}

/* Runs host->code, and leaves its error message. */
static void on_code(struct ev_loop *loop, ev_timer *watcher, int revents) {
  struct host *host = watcher->data;
  (void)loop, (void)revents;
  host->failed = luaL_dostring(host->L, host->code);
  host->ran = true;
}

/* Has `code` run inside a callback of the loop. */
static void run_in_callback(struct host *host, const char *code) {
  ev_timer once;
  host->code = code;
  host->ran = false;
  ev_timer_init(&once, on_code, 0., 0.);
  once.data = host;
  ev_timer_start(host->loop, &once);
  ev_run(host->loop, 0);
  check(host->ran);
}

/* ---- the host runs the loop ---- */

static void returns_when_nothing_is_left(void) {
  struct host host;
  open_host(&host);
  check(ev_run(host.loop, 0) == 0);
  run(host.L, "n = 0\n"
              "moonlet.spawn(function() for i = 1, 3 do moonlet.sleep(0.001) n = n + 1 end end)");
  check(ev_run(host.loop, 0) == 0);
  check(global(host.L, "n") == 3);
  close_host(&host);
}

static void timers_of_both_fire(void) {
  struct host host;
  open_host(&host);
  start_ticker(&host, 5);
  run(host.L, "n = 0\n"
              "moonlet.spawn(function() for i = 1, 5 do moonlet.sleep(0.001) n = n + 1 end end)");
  ev_run(host.loop, 0);
  check(host.ticks == 5);
  check(global(host.L, "n") == 5);
  close_host(&host);
}

/* Greenlets that are always ready neither stop the host's watchers nor are stopped by them. */
static void busy_greenlets_share_the_loop(void) {
  struct host host;
  open_host(&host);
  start_ticker(&host, 5);
  run(host.L,
      "turns = 0\n"
      "for i = 1, 2 do\n"
      "  moonlet.spawn(function() repeat turns = turns + 1 moonlet.sleep(0) until stop end)\n"
      "end");
  while (host.ticks < 5)
    ev_run(host.loop, EVRUN_ONCE);
  check(global(host.L, "turns") > 5);
  run(host.L, "stop = true");
  ev_run(host.loop, 0);
  run(host.L, "assert(moonlet.stats().greenlets <= 1)");
  close_host(&host);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int revents) {
  char byte;
  (void)revents;
  check(read(watcher->fd, &byte, 1) == 1);
  *(int *)watcher->data += 1;
  ev_io_stop(loop, watcher);
}

static int wait_readable(lua_State *L) {
  lua_pushinteger(L, moonlet_wait_fd(L, (int)luaL_checkinteger(L, 1), EV_READ, -1));
  return 1;
}

static int write_byte(lua_State *L) {
  check(write((int)luaL_checkinteger(L, 1), "x", 1) == 1);
  return 0;
}

/* A greenlet and the host wait for a pipe each, and a greenlet wakes both. */
static void descriptors_of_both_work(void) {
  struct host host;
  int hosts[2], greenlets[2], reads = 0;
  ev_io reader;
  open_host(&host);
  check(pipe(hosts) == 0 && pipe(greenlets) == 0);
  ev_io_init(&reader, on_readable, hosts[0], EV_READ);
  reader.data = &reads;
  ev_io_start(host.loop, &reader);
  lua_register(host.L, "wait_readable", wait_readable);
  lua_register(host.L, "write_byte", write_byte);
  lua_pushfstring(host.L,
                  "reader = moonlet.spawn(wait_readable, %d)\n"
                  "moonlet.spawn(function()\n"
                  "  moonlet.sleep(0.001) write_byte(%d) write_byte(%d)\n"
                  "end)",
                  greenlets[0], hosts[1], greenlets[1]);
  run(host.L, lua_tostring(host.L, -1));
  lua_pop(host.L, 1);
  ev_run(host.loop, 0);
  check(reads == 1);
  run(host.L, "assert(reader.value == 1)");
  close_host(&host);
  close(hosts[0]), close(hosts[1]), close(greenlets[0]), close(greenlets[1]);
}

/* ---- other threads ---- */

static int park(lua_State *L) {
  lua_pushboolean(L, moonlet_park(lua_touserdata(L, 1), -1));
  return 1;
}

static void *unpark_later(void *waiter) {
  usleep(10000);
  moonlet_unpark_async(waiter);
  return NULL;
}

/* The loop goes on while a greenlet waits for a thread, and no longer. */
static void threads_may_wake_greenlets(void) {
  struct host host;
  pthread_t thread;
  open_host(&host);
  lua_register(host.L, "park", park);
  moonlet_waiter *waiter = moonlet_waiter_new(host.L);
  lua_setglobal(host.L, "waiter");
  check(ev_run(host.loop, 0) == 0);
  run(host.L, "parked = moonlet.spawn(park, waiter)");
  check(pthread_create(&thread, NULL, unpark_later, waiter) == 0);
  ev_run(host.loop, 0);
  run(host.L, "assert(parked.value == true)");
  check(pthread_join(thread, NULL) == 0);
  close_host(&host);
}

static void nap(void *argument) {
  usleep(10000);
  *(int *)argument = 1;
}

static int offload_nap(lua_State *L) {
  int done = 0;
  check(moonlet_offload(L, nap, &done) == 0);
  lua_pushboolean(L, done);
  return 1;
}

static void threads_may_work(void) {
  struct host host;
  open_host(&host);
  start_ticker(&host, 3);
  lua_register(host.L, "offload_nap", offload_nap);
  run(host.L, "napper = moonlet.spawn(offload_nap)");
  check(ev_run(host.loop, 0) == 0);
  run(host.L, "assert(napper.value == true and offload_nap())");
  check(host.ticks == 3);
  close_host(&host);
}

/* A fork leaves the threads in the parent; the child gets its own, and can end. */
static void forked_children_have_threads(void) {
  struct host host;
  int status;
  open_host(&host);
  lua_register(host.L, "offload_nap", offload_nap);
  run(host.L, "napper = moonlet.spawn(offload_nap) moonlet.sleep(0)");
  pid_t child = fork();
  check(child >= 0);
  if (child == 0) {
    ev_loop_fork(host.loop);
    run(host.L, "assert(offload_nap() and napper:dead())");
    close_host(&host);
    _exit(0);
  }
  run(host.L, "assert(napper:get() == true)");
  check(waitpid(child, &status, 0) == child && status == 0);
  close_host(&host);
}

/* ---- in the host's callbacks ---- */

static void callbacks_may_spawn(void) {
  struct host host;
  open_host(&host);
  run_in_callback(&host, "child = moonlet.spawn(function() moonlet.sleep(0.001) return 'ran' end)\n"
                         "assert(not child:dead())");
  check(!host.failed);
  run(host.L, "assert(child.value == 'ran')");
  close_host(&host);
}

static void callbacks_may_wake_greenlets(void) {
  struct host host;
  open_host(&host);
  run(host.L, "event = require 'moonlet.event'.Event()\n"
              "waiter = moonlet.spawn(function() event:wait() return 'woken' end)");
  ev_run(host.loop, 0);
  run(host.L, "assert(not waiter:dead())");
  run_in_callback(&host, "event:set()");
  check(!host.failed);
  run(host.L, "assert(waiter.value == 'woken')");
  run(host.L, "sleeper = moonlet.spawn(moonlet.sleep, 3600)");
  run_in_callback(&host, "moonlet.kill(sleeper)");
  check(!host.failed);
  run(host.L, "assert(sleeper:dead())");
  close_host(&host);
}

static void callbacks_may_not_block(void) {
  struct host host;
  open_host(&host);
  run_in_callback(&host, "moonlet.sleep(0.001)");
  check(host.failed);
  check(strstr(lua_tostring(host.L, -1), "inside a callback of the host's loop"));
  lua_settop(host.L, 0);
  run_in_callback(&host, "g = moonlet.spawn(moonlet.sleep, 0) g:join()");
  check(host.failed);
  lua_settop(host.L, 0);
  run(host.L, "assert(g:dead())");
  run_in_callback(&host, "moonlet.spawn(function() moonlet.sleep(0) return 1 end)");
  check(!host.failed);
  close_host(&host);
}

/* ---- main blocks where the loop does not run ---- */

static void main_may_block_outside(void) {
  struct host host;
  open_host(&host);
  start_ticker(&host, 1000000);
  run(host.L, "local g = moonlet.spawn(function() moonlet.sleep(0.02) return 'done' end)\n"
              "assert(g:get() == 'done')\n"
              "moonlet.sleep(0.001)");
  check(host.ticks > 0);
  ev_timer_stop(host.loop, &host.ticker);
  check(moonlet_run(host.L, -1) == 1);
  close_host(&host);
}

static void on_event(struct ev_loop *loop, ev_timer *watcher, int revents) {
  (void)loop, (void)revents;
  run(watcher->data, "event:set()");
}

/* What wakes main may come from a watcher of the host's; without any it would wait for ever. */
static void main_may_wait_for_the_host(void) {
  struct host host;
  ev_timer once;
  open_host(&host);
  run(host.L, "event = require 'moonlet.event'.Event()");
  ev_timer_init(&once, on_event, 0.01, 0.);
  once.data = host.L;
  ev_timer_start(host.loop, &once);
  run(host.L, "assert(event:wait()) event:clear()");
  run(host.L, "local ok, err = pcall(event.wait, event)\n"
              "assert(not ok and err:is(moonlet.LoopExit), err)");
  close_host(&host);
}

/* The loop's plans from when it ran last do not matter to main. */
static void main_wakes_in_time(void) {
  struct host host;
  open_host(&host);
  run(host.L, "sleeper = moonlet.spawn(moonlet.sleep, 20)");
  ev_run(host.loop, EVRUN_NOWAIT);
  double start = now();
  run(host.L, "moonlet.sleep(0.001)");
  check(now() - start < 10);
  run(host.L, "sleeper:kill()");
  close_host(&host);
}

/* Main sleeps between events, whichever came before. */
static void waiting_takes_no_time(void) {
  struct host host;
  open_host(&host);
  run(host.L, "moonlet.spawn(moonlet.sleep, 0.002)");
  ev_run(host.loop, EVRUN_ONCE);
  run(host.L, "moonlet.sleep(0.001)\n"
              "local before = moonlet.stats().polls\n"
              "moonlet.sleep(0.05)\n"
              "local polls = moonlet.stats().polls - before\n"
              "assert(polls < 50, polls)");
  close_host(&host);
}

/* Greenlets that block deep in C calls keep their stacks while the host's loop goes round. */
static void greenlets_may_pin(void) {
  struct host host;
  open_host(&host);
  start_ticker(&host, 3);
  run(host.L, "done = 0\n"
              "for i = 1, 20 do\n"
              "  moonlet.spawn(function()\n"
              "    local list = {3, 1, 2}\n"
              "    table.sort(list, function(a, b) moonlet.sleep(0.001) return a < b end)\n"
              "    assert(table.concat(list) == '123')\n"
              "    done = done + 1\n"
              "  end)\n"
              "end");
  ev_run(host.loop, 0);
  check(global(host.L, "done") == 20);
  check(host.ticks == 3);
  close_host(&host);
}

/* ---- the end ---- */

/* After a close the loop is the host's alone, as it was before. */
static void closing_leaves_the_loop(void) {
  struct host host;
  open_host(&host);
  run(host.L, "closed = 0\n"
              "moonlet.spawn(function()\n"
              "  local guard <close> = setmetatable({}, {__close = function() closed = 1 end})\n"
              "  moonlet.sleep(3600)\n"
              "end)\n"
              "moonlet.sleep(0)");
  moonlet_close(host.L);
  check(global(host.L, "closed") == 1);
  lua_close(host.L);
  start_ticker(&host, 3);
  check(ev_run(host.loop, 0) == 0);
  check(host.ticks == 3);
  ev_loop_destroy(host.loop);
}

int main(void) {
  limit_time(60);
  returns_when_nothing_is_left();
  timers_of_both_fire();
  busy_greenlets_share_the_loop();
  descriptors_of_both_work();
  threads_may_wake_greenlets();
  threads_may_work();
  forked_children_have_threads();
  callbacks_may_spawn();
  callbacks_may_wake_greenlets();
  callbacks_may_not_block();
  main_may_block_outside();
  main_may_wait_for_the_host();
  main_wakes_in_time();
  waiting_takes_no_time();
  greenlets_may_pin();
  closing_leaves_the_loop();
  return 0;
}
