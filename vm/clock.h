/*
 * clock.h: CLOCK_MONOTONIC, mostly without asking for it.
 *
 * To read the processor's time stamp counter costs a third of clock_gettime, so where the
 * kernel itself goes by that counter, time is extrapolated from the last exact reading, for
 * a millisecond at most.  The counter's rate is measured as the clock is used; until it is
 * known, and wherever there is none, every reading is exact.
 *
 * A clock never goes back.  It is never ahead of CLOCK_MONOTONIC (but for a millisecond after
 * the counter itself has jumped, when it stands still), and less than CLOCK_LAG behind it: who
 * adds that to the time at which something starts does not end it too early.
 */
#ifndef MOONLET_CLOCK_H
#define MOONLET_CLOCK_H

#include <stdint.h>

#if defined __x86_64__
#include <x86intrin.h>
static inline uint64_t clock_ticks(void) { return __rdtsc(); }
#else
static inline uint64_t clock_ticks(void) { return 0; }
#endif

#define CLOCK_LAG 2e-6

/* One exact reading, which was taken between two looks at the counter. */
struct clock_reading {
  double time; /* seconds */
  uint64_t before, after;
};

/* Zeroed memory is a valid clock; one for each thread. */
struct clock {
  double time;     /* at `ticks`, the last exact reading */
  uint64_t ticks;  /* of the counter */
  uint64_t span;   /* so many ticks later it does not hold any more; 0: no rate is known */
  double rate;     /* seconds a tick, rather too few; 0: not known */
  double measured; /* the same, measured but once */
  struct clock_reading base; /* from which the rate is measured */
};

/* Reads CLOCK_MONOTONIC itself; seconds. */
double clock_exact(struct clock *clock);

static inline double clock_now(struct clock *clock) {
  if (__builtin_expect(clock->span != 0, 1)) {
    uint64_t passed = clock_ticks() - clock->ticks;
    if (__builtin_expect(passed < clock->span, 1))
      return clock->time + (double)(int64_t)passed * clock->rate;
  }
  return clock_exact(clock);
}

#endif
