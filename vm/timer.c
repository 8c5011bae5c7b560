/* timer.c: runs and the heap of timers (see timer.h). */
#include "timer.h"

#include <assert.h>
#include <stdlib.h>

#define ARITY 4

void timers_init(struct timers *timers) {
  *timers = (struct timers){0};
  for (int i = 0; i < TIMER_RUNS; i++)
    list_init(&timers->runs[i]);
}

void timers_clear(struct timers *timers) {
  free(timers->heap);
  timers_init(timers);
}

bool timers_reserve(struct timers *timers) {
  if (timers->heaped + 1 < timers->capacity)
    return true;
  uint32_t capacity = timers->capacity ? timers->capacity * 2 : 16;
  struct timer_slot *heap = realloc(timers->heap, capacity * sizeof *heap);
  if (!heap)
    return false;
  timers->heap = heap;
  timers->capacity = capacity;
  return true;
}

/* ---- the heap ---- */

static bool earlier(const struct timer_slot *a, const struct timer_slot *b) {
  return a->due < b->due || (a->due == b->due && a->timer->order < b->timer->order);
}

static void put(struct timers *timers, uint32_t place, struct timer_slot slot) {
  timers->heap[place] = slot;
  slot.timer->place = place;
}

/* Children of place p are 4p-2 .. 4p+1, counted from 1. */
static void sift_up(struct timers *timers, uint32_t place, struct timer_slot slot) {
  while (place > 1) {
    uint32_t parent = (place + 2) / ARITY;
    if (!earlier(&slot, &timers->heap[parent]))
      break;
    put(timers, place, timers->heap[parent]);
    place = parent;
  }
  put(timers, place, slot);
}

static void sift_down(struct timers *timers, uint32_t place, struct timer_slot slot) {
  for (;;) {
    uint32_t first = place * ARITY - 2, best = first;
    if (first > timers->heaped)
      break;
    for (uint32_t child = first + 1; child < first + ARITY && child <= timers->heaped; child++)
      if (earlier(&timers->heap[child], &timers->heap[best]))
        best = child;
    if (!earlier(&timers->heap[best], &slot))
      break;
    put(timers, place, timers->heap[best]);
    place = best;
  }
  put(timers, place, slot);
}

static void take_from_heap(struct timers *timers, uint32_t place) {
  struct timer_slot last = timers->heap[timers->heaped--];
  if (place > timers->heaped)
    return;
  if (place > 1 && earlier(&last, &timers->heap[(place + 2) / ARITY]))
    sift_up(timers, place, last);
  else
    sift_down(timers, place, last);
}

/* ---- the runs ---- */

static struct timer *in_run(struct link *link) { return container_of(link, struct timer, link); }

/* Appends the timer, which is the latest started, to a run in which nothing is due later. */
static bool join_run(struct timers *timers, struct timer *timer) {
  for (int i = 0; i < TIMER_RUNS; i++) {
    struct link *run = &timers->runs[i];
    if (list_empty(run) || in_run(run->prev)->due <= timer->due) {
      list_append(run, &timer->link);
      timer->place = TIMER_IN_RUN;
      return true;
    }
  }
  return false;
}

/* ---- all of them ---- */

void timer_start(struct timers *timers, struct timer *timer, double due) {
  assert(!timer_running(timer) && timers->heaped + 1 < timers->capacity);
  timer->due = due;
  timer->order = timers->order++;
  timers->count++;
  if (!join_run(timers, timer))
    sift_up(timers, ++timers->heaped, (struct timer_slot){due, timer});
}

void timer_stop(struct timers *timers, struct timer *timer) {
  uint32_t place = timer->place;
  if (place == 0)
    return;
  timer->place = 0;
  timers->count--;
  if (place == TIMER_IN_RUN) {
    list_remove(&timer->link);
  } else {
    assert(timers->heap[place].timer == timer);
    take_from_heap(timers, place);
  }
}

/* The first of the heap and of the runs; its timer is NULL if there is none. */
static struct timer_slot earliest(const struct timers *timers) {
  struct timer_slot best = {0};
  if (timers->heaped > 0)
    best = timers->heap[1];
  for (int i = 0; i < TIMER_RUNS; i++) {
    const struct link *run = &timers->runs[i];
    if (list_empty(run))
      continue;
    struct timer *timer = in_run(run->next);
    struct timer_slot first = {timer->due, timer};
    if (!best.timer || earlier(&first, &best))
      best = first;
  }
  return best;
}

double timers_next(const struct timers *timers) { return earliest(timers).due; }

void timers_expire(struct timers *timers, double now) {
  uint64_t newer = timers->order;
  while (timers->count > 0) {
    struct timer *timer = earliest(timers).timer;
    if (timer->due > now || timer->order >= newer)
      break;
    timer_stop(timers, timer);
    timer->fire(timer);
  }
}
