/* clock.c: the exact readings of a clock, and the rate of the counter (see clock.h). */
#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SPAN 1e-3      /* seconds for which a reading is extrapolated */
#define APART 1e-2     /* between two readings that measure the rate, at least */
#define TOO_FAR 1.     /* and at most: the computer may have slept meanwhile */
#define BLUR 1e-6      /* the longest time an exact reading may take to be of use */
#define AGREEMENT 1e-3 /* by which two measurements of the rate may differ */

/* ---- whether there is a counter that tells the time ---- */

#if defined __x86_64__

/* The kernel has found the counters of all processors steady and equal if it uses them. */
static bool kernel_counts(void) {
  static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  char name[8] = "";
  int permission = 0;
  if (prctl(PR_GET_TSC, &permission) != 0 || permission != PR_TSC_ENABLE)
    return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return false;
  ssize_t length = read(fd, name, sizeof name - 1);
  close(fd);
  return length > 0 && strcmp(name, "tsc\n") == 0;
}

/* Asked once in the process, and not before it has run for a while. */
static bool has_counter(void) {
  enum { UNKNOWN, NO, YES };
  static atomic_int known = UNKNOWN;
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (answer == UNKNOWN) {
    int error = errno;
    answer = kernel_counts() ? YES : NO;
    errno = error;
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  return answer == YES;
}

#else

static bool has_counter(void) { return false; }

#endif

/* ---- the rate ---- */

/* The latest time that anybody can have been told. */
static double told(const struct clock *clock, uint64_t ticks) {
  uint64_t passed = ticks - clock->ticks;
  return clock->time + (double)(passed < clock->span ? passed : clock->span) * clock->rate;
}

static double blur(const struct clock_reading *reading, double rate) {
  return (double)(reading->after - reading->before) * rate;
}

/*
 * Too many ticks are counted for the time that has passed, those of both readings too: an
 * extrapolation stays behind the exact clock.  A rate counts when the one measured before,
 * from another base, agrees.
 */
static void measure(struct clock *clock, const struct clock_reading *reading) {
  double elapsed = reading->time - clock->base.time;
  double rate = elapsed / (double)(reading->after - clock->base.before);
  if (elapsed < TOO_FAR && blur(reading, rate) < BLUR && blur(&clock->base, rate) < BLUR) {
    clock->rate = fabs(rate - clock->measured) < rate * AGREEMENT ? rate : 0;
    clock->measured = rate;
  }
  clock->base = *reading;
}

/* ---- exact readings ---- */

static double monotonic(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A reading from which others can be extrapolated. */
static double synchronize(struct clock *clock) {
  struct clock_reading reading = {.before = clock_ticks()};
  reading.time = monotonic();
  reading.after = clock_ticks();
  double least = told(clock, reading.before);
  if (least > reading.time + BLUR)
    clock->rate = clock->measured = 0;
  if (reading.time - clock->base.time >= APART)
    measure(clock, &reading);
  clock->time = fmax(least, reading.time);
  clock->ticks = reading.after;
  bool sharp = clock->rate > 0 && blur(&reading, clock->rate) < BLUR;
  clock->span = sharp ? (uint64_t)(SPAN / clock->rate) : 0;
  return clock->time;
}

double clock_exact(struct clock *clock) {
  if (clock->rate == 0) {
    double time = monotonic();
    if (time - clock->base.time < APART || !has_counter())
      return clock->time = fmax(time, clock->time);
  }
  return synchronize(clock);
}
