/* sources: vm/clock.c */
/* clock_test.c: the clock against CLOCK_MONOTONIC itself. */
#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include "support.h"

#define ROUNDING 1e-9

static struct clock measured;

/* Reads it between two exact readings, and returns whether it was extrapolated. */
static int read_once(struct clock *clock, double *last) {
  double before = now();
  int known = clock->span != 0;
  double time = clock_now(clock);
  check(time <= now() + ROUNDING);
  check(time > before - CLOCK_LAG);
  check(time >= *last);
  *last = time;
  return known;
}

/* Reads it for so long; returns how often it was extrapolated. */
static long read_for(struct clock *clock, double seconds) {
  double last = 0, end = now() + seconds;
  long known = 0;
  while (now() < end)
    known += read_once(clock, &last);
  return known;
}

static void rest(double seconds) {
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
}

static void agrees_with_the_exact_clock(void) {
  errno = ENOENT;
  read_for(&measured, 0.3);
  check(errno == ENOENT);
}

/* Most readings are exact then, and all of them start from another one. */
static void agrees_after_pauses(void) {
  double last = 0;
  for (int i = 0; i < 200; i++) {
    rest((i % 20) * 2e-4);
    for (int k = 0; k < 50; k++)
      read_once(&measured, &last);
  }
  rest(1.1);
  read_for(&measured, 0.05);
}

static void agrees_on_every_processor(void) {
  cpu_set_t allowed, one;
  double last = 0;
  check(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  for (int round = 0; round < 500; round++)
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &allowed))
        continue;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      check(sched_setaffinity(0, sizeof one, &one) == 0);
      for (int i = 0; i < 100; i++)
        read_once(&measured, &last);
    }
  check(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
}

static void agrees_in_a_child(void) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    read_for(&measured, 0.05);
    _exit(0);
  }
  read_for(&measured, 0.05);
  check(waitpid(child, &status, 0) == child && status == 0);
}

static void *read_own(void *unused) {
  struct clock own = {0};
  read_for(&own, 0.2);
  return unused;
}

static void each_thread_has_its_own(void) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    check(pthread_create(&threads[i], NULL, read_own, NULL) == 0);
  for (int i = 0; i < 3; i++)
    check(pthread_join(threads[i], NULL) == 0);
}

/* Being ahead, it stands still until the exact clock has caught up with it. */
static void catches_up(double last, double most) {
  double ahead = last;
  check(last <= now() + most);
  for (double end = now() + 0.05; now() < end;) {
    double time = clock_now(&measured);
    check(time >= last && (time == ahead || time <= now() + CLOCK_LAG));
    last = time;
  }
  read_for(&measured, 0.05);
}

/* As if the counter had begun anew, or had gone on while CLOCK_MONOTONIC stood still. */
static void recovers_from_a_jump_of_the_counter(void) {
  static const uint64_t jumps[] = {UINT64_C(1) << 40, -(UINT64_C(1) << 40)};
  for (int i = 0; i < 2; i++) {
    double last = clock_now(&measured);
    measured.ticks += jumps[i];
    measured.base.before += jumps[i];
    measured.base.after += jumps[i];
    check(clock_now(&measured) >= last);
    catches_up(clock_now(&measured), 1e-3);
  }
}

static void recovers_from_a_wrong_rate(void) {
  if (measured.span == 0)
    return;
  double last = 0;
  double wrong = measured.rate *= 1.5;
  while (measured.rate == wrong)
    last = clock_now(&measured);
  catches_up(last, 1e-3);
}

/* Nothing goes by the counter unless the rate is known, which takes two measurements. */
static void is_exact_until_the_rate_is_known(void) {
  struct clock fresh = {0};
  double last = 0, begun = now();
  while (now() < begun + 0.019)
    check(!read_once(&fresh, &last));
}

int main(void) {
  limit_time(60);
  is_exact_until_the_rate_is_known();
  agrees_with_the_exact_clock();
  agrees_after_pauses();
  agrees_on_every_processor();
  agrees_in_a_child();
  each_thread_has_its_own();
  recovers_from_a_jump_of_the_counter();
  recovers_from_a_wrong_rate();
  return 0;
}
