/*
 * timer.h: the timers of one hub.
 *
 * They are ordered by due time, then by the order of starting, so that equal delays
 * end in the order in which they began (libev's own heap has no such rule).  Most are
 * due after those started before them, because programs use few different delays:
 * such a timer goes to the end of a run, a list in order.  What fits no run is in a
 * 4-ary heap.  Only the earliest timer is known to libev; starting and stopping one is
 * therefore no more than a few stores.  The clock can be a virtual one.
 *
 * Where timers are many they lie scattered in memory, so to order them none is looked at: an
 * entry knows a timer by its number.  One that is stopped leaves its entry behind, until that
 * comes up or half of all are such entries.  Of many entries only a part is in the heap, those
 * due before a border; when it is used up, the next part of the others is chosen.
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
  uint32_t number;  /* of its entry; TIMER_IN_RUN; 0: not running */
  void (*fire)(struct timer *timer);
};

#define TIMER_IN_RUN UINT32_MAX

/* An entry.  Those after the end hold the numbers that nobody has. */
struct timer_slot {
  uint64_t due; /* as an integer in the same order; UINT64_MAX after the end */
  uint32_t order, number;
};

struct timers {
  struct link runs[TIMER_RUNS]; /* rings */
  struct timer_slot *slots;     /* the heap, then those due at the border or later, unordered */
  struct timer **numbered;      /* number -> timer; NULL: stopped */
  uint32_t near, end, capacity; /* where the heap ends, all entries end, the array ends */
  uint32_t most;                /* near may become, before they are chosen anew */
  uint32_t stopped;             /* entries left behind */
  uint32_t count;               /* timers running */
  uint64_t border;              /* UINT64_MAX: all are in the heap */
  uint64_t order;
};

void timers_init(struct timers *timers);
void timers_clear(struct timers *timers);

/* Makes room for one more timer, so that the next timer_start cannot fail. */
bool timers_grow(struct timers *timers);

static inline bool timers_reserve(struct timers *timers) {
  return __builtin_expect(timers->end < timers->capacity, 1) || timers_grow(timers);
}

/* Starts `timer`, which is not running, after a successful timers_reserve. */
void timer_start(struct timers *timers, struct timer *timer, double due);

/* Stops `timer`; nothing happens when it is not running. */
void timer_stop(struct timers *timers, struct timer *timer);

/* Stops and fires every timer due at `now`; those started meanwhile wait their turn. */
void timers_expire(struct timers *timers, double now);

static inline bool timer_running(const struct timer *timer) { return timer->number != 0; }

/* When the next timer is due; only if count > 0. */
double timers_next(struct timers *timers);

#endif
