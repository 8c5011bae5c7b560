/* sources: vm/cstack.c vm/switch_x86_64.S vm/switch_aarch64.S */
/* cstack_test.c: C stacks, and what a switch between them must keep. */
#define _GNU_SOURCE
#include <fenv.h>
#include <stdint.h>
#include <sys/resource.h>

#include "cstack.h"
#include "support.h"

static struct cstack_pool pool;
static struct cstack native, *current;

/* What a fresh stack runs: the function set before the first switch to it. */
static void (*body)(void);

static void jump(struct cstack *to) {
  struct cstack *from = current;
  current = to;
  cstack_jump(&pool, from, to);
}

static void run_body(void *argument) {
  check(argument == &pool);
  cstack_arrived(&pool);
  for (;;) {
    struct cstack *self = current;
    body();
    cstack_give(&pool, self);
    jump(&native);
  }
}

static void open_pool(void) {
  cstack_pool_init(&pool, run_body, &pool);
  current = &native;
}

static void close_pool(void) {
  check(current == &native);
  cstack_pool_clear(&pool, NULL);
  check(pool.count == 0 && pool.idle_count == 0);
}

/* Starts the body on a stack of its own, until it jumps back or ends. */
static struct cstack *start(void (*function)(void)) {
  body = function;
  check(cstack_reserve(&pool));
  struct cstack *stack = cstack_take(&pool);
  jump(stack);
  return stack;
}

/* ---- going there and back ---- */

static int steps;

static void step_three_times(void) {
  for (int i = 0; i < 3; i++) {
    steps++;
    jump(&native);
  }
}

static void continues_where_it_left(void) {
  open_pool();
  steps = 0;
  struct cstack *stack = start(step_three_times);
  for (int i = 1; i < 3; i++) {
    check(steps == i);
    jump(stack);
  }
  check(steps == 3 && pool.idle_count == 0);
  jump(stack);
  check(pool.idle_count == 1 && pool.count == 1);
  check(start(step_three_times) == stack);
  check(steps == 4);
  close_pool();
}

/* ---- what a switch keeps ---- */

/* More live values than there are registers, all needed on both sides of the switch. */
static uint64_t mix(uint64_t x, void (*away)(void)) {
  volatile uint64_t start_with = x;
  uint64_t a = start_with + 1, b = a * 3, c = b ^ x, d = c + a, e = d * 5, f = e ^ b, g = f + c,
           h = g * 7, i = h ^ d, j = i + e, k = j * 11, l = k ^ f;
  double p = (double)(x % 1000) / 3, q = p * 7, r = q - 2, s = r / 5;
  away();
  return a + b + c + d + e + f + g + h + i + j + k + l + (uint64_t)((p + q + r + s) * 1000);
}

static void stay(void) {}

static void leave(void) { jump(&native); }

static void compute_there(void) {
  for (uint64_t x = 0; x < 100; x++)
    check(mix(x, leave) == mix(x, stay));
}

static struct cstack *other;

static void visit(void) { jump(other); }

static void registers_are_kept(void) {
  open_pool();
  other = start(compute_there);
  for (uint64_t x = 1000; pool.idle_count == 0; x++)
    check(mix(x, visit) == mix(x, stay));
  close_pool();
}

static void rounds_upward(void) {
  check(fegetround() == FE_TONEAREST);
  fesetround(FE_UPWARD);
  jump(&native);
  check(fegetround() == FE_UPWARD);
  fesetround(FE_TONEAREST);
}

static void rounds_downward(void) {
  check(fegetround() == FE_DOWNWARD);
  fesetround(FE_TONEAREST);
}

/* Each stack has its own rounding mode; a fresh one has that of its maker. */
static void floating_point_control_is_kept(void) {
  open_pool();
  struct cstack *stack = start(rounds_upward);
  check(fegetround() == FE_TONEAREST);
  fesetround(FE_TOWARDZERO);
  jump(stack);
  check(fegetround() == FE_TOWARDZERO);
  fesetround(FE_TONEAREST);
  close_pool();

  open_pool();
  fesetround(FE_DOWNWARD);
  start(rounds_downward);
  check(fegetround() == FE_DOWNWARD);
  fesetround(FE_TONEAREST);
  close_pool();
}

static void is_aligned(void) {
  volatile _Alignas(64) char line[64];
  volatile long double number = 1.5L;
  char text[64];
  check((uintptr_t)line % 64 == 0);
  snprintf(text, sizeof text, "%.1Lf %s", number, "printf needs an aligned stack");
  check(strncmp(text, "1.5 printf", 10) == 0);
}

static void stacks_are_aligned(void) {
  open_pool();
  start(is_aligned);
  close_pool();
}

/* ---- deep and many ---- */

static int recurse(int depth) {
  volatile char frame[1000];
  frame[depth % 1000] = (char)depth;
  return depth == 0 ? 0 : recurse(depth - 1) + (frame[depth % 1000] == (char)depth);
}

static void recurse_deeply(void) { check(recurse(2500) == 2500); }

static void default_size_is_usable(void) {
  open_pool();
  start(recurse_deeply);
  close_pool();
}

#define MANY 2000

static void count_twice(void) {
  volatile int mine = steps;
  steps++;
  jump(&native);
  check(mine >= 0 && mine < MANY);
  steps++;
}

/* Many are in use at once; of those that are idle again few are kept. */
static void there_may_be_thousands(void) {
  static struct cstack *stacks[MANY];
  open_pool();
  pool.size = CSTACK_MIN_SIZE;
  steps = 0;
  for (int i = 0; i < MANY; i++)
    stacks[i] = start(count_twice);
  check(steps == MANY && pool.count == MANY);
  for (int i = 0; i < MANY; i++) {
    jump(stacks[i]);
    cstack_trim(&pool);
  }
  check(steps == 2 * MANY);
  check(pool.count <= CSTACK_MAX_IDLE && pool.count == pool.idle_count);
  close_pool();
}

static void dirty_the_depths(void) { check(recurse(1000) == 1000); }

/* Idle stacks beyond the warm ones give their memory back. */
static void idle_stacks_are_trimmed(void) {
  struct cstack *stacks[CSTACK_MAX_WARM + 2];
  int count = CSTACK_MAX_WARM + 2;
  open_pool();
  steps = 0;
  for (int i = 0; i < count; i++)
    stacks[i] = start(leave);
  for (int i = 0; i < count; i++)
    jump(stacks[i]);
  check(pool.idle_count == count);
  start(dirty_the_depths);
  check(pool.idle_count == count);
  close_pool();
}

/* ---- running out ---- */

/* Not under a sanitizer, whose shadow memory needs the whole address space. */
#if !defined(__SANITIZE_ADDRESS__)
static void running_out_is_told(void) {
  struct rlimit before, tight;
  int count = 0;
  open_pool();
  check(getrlimit(RLIMIT_AS, &before) == 0);
  tight = before;
  tight.rlim_cur = (rlim_t)512 << 20;
  check(setrlimit(RLIMIT_AS, &tight) == 0);
  while (cstack_reserve(&pool)) {
    check(++count < 512);
    cstack_take(&pool);
  }
  check(count > 0);
  check(setrlimit(RLIMIT_AS, &before) == 0);
  check(cstack_reserve(&pool));
  close_pool();
}
#else
static void running_out_is_told(void) {}
#endif

int main(void) {
  limit_time(60);
  continues_where_it_left();
  registers_are_kept();
  floating_point_control_is_kept();
  stacks_are_aligned();
  default_size_is_usable();
  there_may_be_thousands();
  idle_stacks_are_trimmed();
  running_out_is_told();
  return 0;
}
