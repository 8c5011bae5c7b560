/* sources: vm/cstack.c vm/switch_x86_64.S vm/switch_aarch64.S */
/*
 * floor.c: what each benchmark costs at the very least.
 *
 * Bare loops over lua_resume, libev and the switch of C stacks, in C and with no runtime
 * around them, for the same work as the scripts in peer/ do.  Prints lines of NAME, VALUE and
 * UNIT.  It also meters how programs start.
 */
#define _GNU_SOURCE
#include <ev.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cstack.h"

static char **arguments;
static struct ev_loop *loop;

static _Noreturn void fail(const char *why) {
  fprintf(stderr, "floor: %s\n", why);
  exit(1);
}

static long number(int i) { return arguments[i] ? atol(arguments[i]) : 0; }

static long positive(int i) {
  if (number(i) <= 0)
    fail("a count is missing");
  return number(i);
}

static bool mode_is(const char *mode) { return strcmp(arguments[0], mode) == 0; }

/* ---- what is measured ---- */

static double cpu(void) {
  struct timespec ts;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Bytes on the line of /proc/self/status that starts so. */
static double memory(const char *key) {
  char line[256];
  double bytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, key, strlen(key)) == 0)
      bytes = (double)atol(line + strlen(key)) * 1024;
  if (file)
    fclose(file);
  return bytes;
}

static void result(const char *name, double value, const char *unit) {
  printf("%s\t%.6g\t%s\n", name, value, unit);
}

static void *allocate(size_t count, size_t size) {
  void *block = calloc(count, size);
  if (!block)
    fail("out of memory");
  return block;
}

/* ---- Lua states and threads ---- */

static void load(lua_State *L, const char *chunk) {
  if (luaL_dostring(L, chunk) != LUA_OK)
    fail(lua_tostring(L, -1));
}

/* A thread, kept in the table at `anchors`, that has the function at `function` to run. */
static lua_State *new_thread(lua_State *L, int anchors, lua_Integer slot, int function) {
  lua_State *co = lua_newthread(L);
  lua_rawseti(L, anchors, slot);
  lua_pushvalue(L, function);
  lua_xmove(L, co, 1);
  return co;
}

static void release(lua_State *L, int anchors, lua_Integer slot) {
  lua_pushnil(L);
  lua_rawseti(L, anchors, slot);
}

/* Returns whether it goes on. */
static bool resume(lua_State *co, int nargs) {
  int results, status = lua_resume(co, NULL, nargs, &results);
  if (status > LUA_YIELD)
    fail(lua_tostring(co, -1));
  return status == LUA_YIELD;
}

/* ---- ring GREENLETS YIELDS ---- */

static int l_yield(lua_State *L) { return lua_yield(L, 0); }

static void ring(lua_State *L) {
  long count = positive(0), yields = positive(1);
  lua_State **threads = allocate((size_t)count, sizeof *threads);
  lua_register(L, "yield", l_yield);
  load(L, "local yield = yield return function(n) for _ = 1, n do yield() end end");
  lua_newtable(L);
  for (long i = 0; i < count; i++) {
    threads[i] = new_thread(L, 2, i + 1, 1);
    lua_pushinteger(threads[i], yields);
  }
  double begun = cpu();
  for (long turn = 0; turn <= yields; turn++)
    for (long i = 0; i < count; i++)
      if (resume(threads[i], turn == 0) != (turn < yields))
        fail("a thread ended at another turn");
  result("switch", (cpu() - begun) / ((double)count * (double)yields) * 1e9, "ns");
  free(threads);
}

/* ---- spawn all|batch COUNT [reuse] ---- */

static void spawn(lua_State *L) {
  long count = positive(1), batch = mode_is("all") ? count : 100;
  bool reuse = arguments[2] != NULL;
  lua_State **threads = allocate((size_t)batch, sizeof *threads);
  load(L, "local ended = 0\n"
          "return function() ended = ended + 1 end, function() return ended end");
  lua_createtable(L, (int)batch, 0);
  double begun = cpu();
  for (long done = 0; done < count; done += batch) {
    for (long i = 0; i < batch; i++) {
      if (threads[i] && reuse) {
        lua_pushvalue(L, 1);
        lua_xmove(L, threads[i], 1);
      } else {
        threads[i] = new_thread(L, 3, i + 1, 1);
      }
    }
    for (long i = 0; i < batch; i++) {
      resume(threads[i], 0);
      if (!reuse)
        release(L, 3, i + 1);
    }
  }
  result("spawn", (cpu() - begun) / (double)count * 1e9, "ns");
  lua_pushvalue(L, 2);
  lua_call(L, 0, 1);
  if (lua_tointeger(L, -1) != count)
    fail("not all have run");
  free(threads);
}

/* ---- park COUNT SECONDS, sleepers COUNT: threads on timers of libev ---- */

struct sleeper {
  ev_timer timer;
  lua_State *L, *co;
  long slot;
};

static long awake;

static void run_sleeper(struct sleeper *self, int nargs) {
  if (!resume(self->co, nargs)) {
    release(self->L, 2, self->slot);
    awake++;
  }
}

static void time_is_up(struct ev_loop *ev, ev_timer *timer, int events) {
  (void)ev, (void)events;
  run_sleeper((struct sleeper *)timer, 0);
}

static struct sleeper **self_of(lua_State *co) { return lua_getextraspace(co); }

static int l_sleep(lua_State *L) {
  struct sleeper *self = *self_of(L);
  ev_timer_init(&self->timer, time_is_up, lua_tonumber(L, 1), 0.);
  ev_timer_start(loop, &self->timer);
  return lua_yield(L, 0);
}

/* Starts them all; each sleeps for so many seconds, or at random up to one if that is 0. */
static struct sleeper *start_sleepers(lua_State *L, long count, double seconds) {
  struct sleeper *sleepers = allocate((size_t)count, sizeof *sleepers);
  for (long i = 0; i < count; i++) {
    struct sleeper *self = &sleepers[i];
    self->L = L;
    self->slot = i + 1;
    self->co = new_thread(L, 2, i + 1, 1);
    *self_of(self->co) = self;
    lua_pushnumber(self->co, seconds > 0 ? seconds : (double)random() / (double)RAND_MAX);
    run_sleeper(self, 1);
  }
  return sleepers;
}

static void prepare_sleep(lua_State *L) {
  lua_register(L, "sleep", l_sleep);
  load(L, "local sleep = sleep return function(seconds) sleep(seconds) end");
  lua_newtable(L);
  lua_gc(L, LUA_GCCOLLECT);
}

static void park(lua_State *L) {
  long count = positive(0);
  prepare_sleep(L);
  double empty = memory("VmRSS:"), begun = cpu();
  struct sleeper *sleepers = start_sleepers(L, count, atof(arguments[1]));
  double created = cpu(), full = memory("VmRSS:");
  if (awake != 0)
    fail("some woke before all were asleep");
  ev_run(loop, 0);
  double woken = cpu();
  result("mem_each", (full - empty) / (double)count, "bytes");
  result("create_each", (created - begun) / (double)count * 1e9, "ns");
  result("wake_each", (woken - created) / (double)count * 1e9, "ns");
  free(sleepers);
}

static void sleepers(lua_State *L) {
  long count = positive(0);
  prepare_sleep(L);
  double begun = cpu();
  struct sleeper *all = start_sleepers(L, count, 0);
  ev_run(loop, 0);
  if (awake != count)
    fail("not all woke");
  result("sleeper", (cpu() - begun) / (double)count * 1e6, "us");
  free(all);
}

/* ---- cancel COUNT: a timer is started and stopped ---- */

static void never_due(struct ev_loop *ev, ev_timer *timer, int events) {
  (void)ev, (void)timer, (void)events;
  fail("a timer that was to be stopped has fired");
}

static int l_start(lua_State *L) {
  ev_timer *timer = lua_newuserdatauv(L, sizeof *timer, 0);
  ev_timer_init(timer, never_due, lua_tonumber(L, 1), 0.);
  ev_timer_start(loop, timer);
  return 1;
}

static int l_stop(lua_State *L) {
  ev_timer_stop(loop, lua_touserdata(L, 1));
  return 0;
}

static void cancel(lua_State *L) {
  long count = positive(0);
  lua_register(L, "start", l_start);
  lua_register(L, "stop", l_stop);
  load(L, "local start, stop = start, stop\n"
          "return function(n) for _ = 1, n do stop(start(10)) end end");
  double begun = cpu();
  lua_pushinteger(L, count);
  lua_call(L, 1, 0);
  result("cancel", (cpu() - begun) / (double)count * 1e9, "ns");
}

/* ---- queue ITEMS MAXSIZE [TIMEOUT]: one producer, one consumer ---- */

struct queue {
  lua_Integer head, tail; /* positions that count on for ever */
  lua_Integer mask;       /* from a position to a slot of the table of items */
  lua_Integer max;
  lua_State *getter, *putter; /* blocked */
  ev_timer limit;
};

static lua_State *ready[2];
static unsigned ready_first, ready_last;

static void make_ready(lua_State **blocked) {
  if (*blocked)
    ready[ready_last++ % 2] = *blocked;
  *blocked = NULL;
}

static int put(lua_State *L, int status, lua_KContext context) {
  struct queue *q = lua_touserdata(L, 1);
  (void)status, (void)context;
  if (q->tail - q->head == q->max) {
    q->putter = L;
    return lua_yieldk(L, 0, 0, put);
  }
  lua_getiuservalue(L, 1, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, (q->tail++ & q->mask) + 1);
  make_ready(&q->getter);
  return 0;
}

static int get(lua_State *L, int status, lua_KContext context) {
  struct queue *q = lua_touserdata(L, 1);
  double seconds = lua_tonumber(L, 2);
  (void)context;
  if (status == LUA_YIELD && seconds > 0)
    ev_timer_stop(loop, &q->limit);
  if (q->tail == q->head) {
    if (seconds > 0) {
      ev_timer_set(&q->limit, seconds, 0.);
      ev_timer_start(loop, &q->limit);
    }
    q->getter = L;
    return lua_yieldk(L, 0, 0, get);
  }
  lua_getiuservalue(L, 1, 1);
  lua_rawgeti(L, -1, (q->head++ & q->mask) + 1);
  make_ready(&q->putter);
  return 1;
}

static int l_put(lua_State *L) { return put(L, LUA_OK, 0); }

static int l_get(lua_State *L) { return get(L, LUA_OK, 0); }

/* Pushes a queue with its table; MAXSIZE 0: unbounded. */
static void push_queue(lua_State *L, lua_Integer max) {
  struct queue *q = lua_newuserdatauv(L, sizeof *q, 1);
  *q = (struct queue){.mask = max ? 0 : LUA_MAXINTEGER, .max = max ? max : LUA_MAXINTEGER};
  while (max && q->mask < max - 1)
    q->mask = q->mask * 2 + 1;
  ev_timer_init(&q->limit, never_due, 0., 0.);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
}

static void queue(lua_State *L) {
  lua_Integer count = positive(0);
  lua_register(L, "put", l_put);
  lua_register(L, "get", l_get);
  load(L, "local put, get = put, get\n"
          "return function(q, n) for i = 1, n do put(q, i) end end,\n"
          "  function(q, n, timeout)\n"
          "    local sum = 0\n"
          "    for _ = 1, n do sum = sum + get(q, timeout) end\n"
          "    total = sum\n"
          "  end");
  lua_newtable(L);
  push_queue(L, number(1));
  double begun = cpu();
  for (int function = 1; function <= 2; function++) {
    lua_State *co = new_thread(L, 3, function, function);
    lua_pushvalue(L, 4);
    lua_xmove(L, co, 1);
    lua_pushinteger(co, count);
    lua_pushnumber(co, arguments[1] && arguments[2] ? atof(arguments[2]) : 0);
    resume(co, 3);
  }
  while (ready_first != ready_last)
    resume(ready[ready_first++ % 2], 0);
  result("item", (cpu() - begun) / (double)count * 1e9, "ns");
  lua_getglobal(L, "total");
  if (lua_tointeger(L, -1) != count * (count + 1) / 2)
    fail("items were lost");
}

/* ---- pinned ring COUNT JUMPS, pinned park COUNT: threads that hold a C stack each ---- */

static struct cstack_pool pool;
static struct cstack native, **stacks;
static lua_State **pinned_threads;
static long pinned_count, pinned_ended, here; /* `here` runs; pinned_count: the native stack */

static void jump(long to) {
  struct cstack *from = here == pinned_count ? &native : stacks[here];
  here = to;
  cstack_jump(&pool, from, to == pinned_count ? &native : stacks[to]);
}

static int l_jump_next(lua_State *L) {
  (void)L;
  jump((here + 1) % pinned_count);
  return 0;
}

static int l_jump_back(lua_State *L) {
  (void)L;
  jump(pinned_count);
  return 0;
}

/* What a stack runs.  In a ring they end in turn, the last one goes back to main(). */
static void run_pinned(void *in_ring) {
  cstack_arrived(&pool);
  resume(pinned_threads[here], 1);
  pinned_ended++;
  jump(*(bool *)in_ring && pinned_ended < pinned_count ? here + 1 : pinned_count);
  abort();
}

static void prepare_pinned(lua_State *L, bool *in_ring) {
  pinned_count = here = positive(1);
  stacks = allocate((size_t)pinned_count, sizeof(struct cstack *));
  pinned_threads = allocate((size_t)pinned_count, sizeof(lua_State *));
  cstack_pool_init(&pool, run_pinned, in_ring);
  lua_register(L, "jump", *in_ring ? l_jump_next : l_jump_back);
  load(L, "local jump = jump\n"
          "return function(n)\n"
          "  local function callback() for _ = 1, n do jump() end end;\n"
          "  (\"x\"):gsub(\"x\", callback)\n"
          "end");
  lua_newtable(L);
  lua_gc(L, LUA_GCCOLLECT);
}

static void make_pinned(lua_State *L, long i, lua_Integer jumps) {
  pinned_threads[i] = new_thread(L, 2, i + 1, 1);
  lua_pushinteger(pinned_threads[i], jumps);
  if (!cstack_reserve(&pool))
    fail("cannot map a C stack");
  stacks[i] = cstack_take(&pool);
}

static void pinned_ring(lua_State *L) {
  bool in_ring = true;
  long jumps = positive(2);
  prepare_pinned(L, &in_ring);
  for (long i = 0; i < pinned_count; i++)
    make_pinned(L, i, jumps);
  double begun = cpu();
  jump(0);
  result("switch", (cpu() - begun) / ((double)pinned_count * (double)jumps) * 1e9, "ns");
}

static void pinned_park(lua_State *L) {
  bool in_ring = false;
  prepare_pinned(L, &in_ring);
  double empty = memory("VmRSS:"), tables = memory("VmPTE:");
  for (long i = 0; i < pinned_count; i++) {
    make_pinned(L, i, 1);
    jump(i);
  }
  double full = memory("VmRSS:"), more_tables = memory("VmPTE:");
  for (long i = 0; i < pinned_count; i++)
    jump(i);
  result("mem_each", (full - empty) / (double)pinned_count, "bytes");
  result("tables_each", (more_tables - tables) / (double)pinned_count, "bytes");
}

static void pinned(lua_State *L) {
  if (mode_is("ring"))
    pinned_ring(L);
  else
    pinned_park(L);
  if (pinned_ended != pinned_count)
    fail("not all pinned threads ended");
  cstack_pool_clear(&pool, NULL);
  free(stacks);
  free(pinned_threads);
}

/* ---- start STARTS COMMAND...: the median of CPU and elapsed time, the largest memory ---- */

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, long count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return values[count / 2];
}

static double milliseconds(struct timeval time) {
  return (double)time.tv_sec * 1e3 + (double)time.tv_usec * 1e-3;
}

static double elapsed(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

static struct rusage run_command(void) {
  struct rusage usage;
  int status;
  pid_t child = fork();
  if (child == 0) {
    execvp(arguments[1], arguments + 1);
    _exit(127);
  }
  if (wait4(child, &status, 0, &usage) != child || status != 0)
    fail("the command failed");
  return usage;
}

static void start(lua_State *L) {
  long count = positive(0), peak = 0;
  double *wall = allocate((size_t)count, sizeof *wall);
  double *busy = allocate((size_t)count, sizeof *busy);
  (void)L;
  for (long i = 0; i < count; i++) {
    double begun = elapsed();
    struct rusage usage = run_command();
    wall[i] = elapsed() - begun;
    busy[i] = milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime);
    if (usage.ru_maxrss > peak)
      peak = usage.ru_maxrss;
  }
  result("start_wall", median(wall, count), "ms");
  result("start_cpu", median(busy, count), "ms");
  result("peak_rss", (double)peak / 1024, "MiB");
  free(wall);
  free(busy);
}

/* ---- empty: what every program with Lua and libev does ---- */

static void empty(lua_State *L) {
  (void)L;
  ev_run(loop, 0);
}

static const struct measure {
  const char *name;
  int least; /* arguments */
  void (*run)(lua_State *L);
} measures[] = {{"ring", 2, ring},         {"spawn", 2, spawn},   {"park", 2, park},
                {"sleepers", 1, sleepers}, {"cancel", 1, cancel}, {"queue", 2, queue},
                {"pinned", 2, pinned},     {"start", 2, start},   {"empty", 0, empty}};

int main(int argc, char **argv) {
  for (size_t i = 0; i < sizeof measures / sizeof *measures; i++)
    if (argc >= measures[i].least + 2 && strcmp(argv[1], measures[i].name) == 0) {
      lua_State *L = luaL_newstate();
      luaL_openlibs(L);
      lua_gc(L, LUA_GCGEN, 0, 0); /* as the commands lua and moonlet do */
      loop = ev_default_loop(0);
      arguments = argv + 2;
      measures[i].run(L);
      lua_close(L);
      return 0;
    }
  fail("usage: floor MEASURE ARGUMENT...");
}
