/*
 * timer.h: the timers of one hub.
 *
 * They are ordered by due time, then by the order of starting, so that equal delays
 * end in the order in which they began (libev's own heap has no such rule).  Most are
 * due after those started before them, because programs use few different delays:
 * such a timer goes to the end of a run, a list in order.  What fits no run is in a
 * 4-ary heap.  Only the earliest timer is known to libev; starting and stopping one is
 * therefore no more than a few stores.  The clock can be a virtual one.
 */
#ifndef MOONLET_TIMER_H
#define MOONLET_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

#define TIMER_RUNS 4

struct timer {
  double due;       /* in the hub's clock, seconds */
  uint64_t order;   /* breaks ties */
  struct link link; /* in a run */
  uint32_t place;   /* in the heap, counted from 1; TIMER_IN_RUN; 0: not running */
  void (*fire)(struct timer *timer);
};

#define TIMER_IN_RUN UINT32_MAX

struct timer_slot {
  double due;
  struct timer *timer;
};

struct timers {
  struct link runs[TIMER_RUNS]; /* rings */
  struct timer_slot *heap;      /* heap[1] is its earliest */
  uint32_t heaped, capacity;    /* of the heap */
  uint32_t count;               /* of all that are running */
  uint64_t order;
};

void timers_init(struct timers *timers);
void timers_clear(struct timers *timers);

/* Makes room for one more timer, so that the next timer_start cannot fail. */
bool timers_reserve(struct timers *timers);

/* Starts `timer`, which is not running, after a successful timers_reserve. */
void timer_start(struct timers *timers, struct timer *timer, double due);

/* Stops `timer`; nothing happens when it is not running. */
void timer_stop(struct timers *timers, struct timer *timer);

/* Stops and fires every timer due at `now`; those started meanwhile wait their turn. */
void timers_expire(struct timers *timers, double now);

static inline bool timer_running(const struct timer *timer) { return timer->place != 0; }

/* When the next timer is due; only if count > 0. */
double timers_next(const struct timers *timers);

#endif
