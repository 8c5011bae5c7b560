/*
 * timer.h: the timers of one hub.
 *
 * A 4-ary heap ordered by due time, then by the order of starting, so that equal
 * delays end in the order in which they began (libev's own heap has no such rule).
 * Only the earliest timer is known to libev; starting and stopping a timer is
 * therefore no more than a few stores.  The clock can be a virtual one.
 */
#ifndef MOONLET_TIMER_H
#define MOONLET_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
  double due;     /* in the hub's clock, seconds */
  uint64_t order; /* breaks ties */
  uint32_t place; /* in the heap, counted from 1; 0: not running */
  void (*fire)(struct timer *timer);
};

struct timer_slot {
  double due;
  struct timer *timer;
};

struct timers {
  struct timer_slot *heap; /* heap[1] is the earliest */
  uint32_t count, capacity;
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
static inline double timers_next(const struct timers *timers) { return timers->heap[1].due; }

#endif
