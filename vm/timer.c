/* timer.c: the timer heap (see timer.h). */
#include "timer.h"

#include <assert.h>
#include <stdlib.h>

#define ARITY 4

void timers_init(struct timers *timers) { *timers = (struct timers){0}; }

void timers_clear(struct timers *timers) {
  free(timers->heap);
  timers_init(timers);
}

bool timers_reserve(struct timers *timers) {
  if (timers->count + 1 < timers->capacity)
    return true;
  uint32_t capacity = timers->capacity ? timers->capacity * 2 : 16;
  struct timer_slot *heap = realloc(timers->heap, capacity * sizeof *heap);
  if (!heap)
    return false;
  timers->heap = heap;
  timers->capacity = capacity;
  return true;
}

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
    if (first > timers->count)
      break;
    for (uint32_t child = first + 1; child < first + ARITY && child <= timers->count; child++)
      if (earlier(&timers->heap[child], &timers->heap[best]))
        best = child;
    if (!earlier(&timers->heap[best], &slot))
      break;
    put(timers, place, timers->heap[best]);
    place = best;
  }
  put(timers, place, slot);
}

void timer_start(struct timers *timers, struct timer *timer, double due) {
  assert(!timer_running(timer) && timers->count + 1 < timers->capacity);
  timer->due = due;
  timer->order = timers->order++;
  sift_up(timers, ++timers->count, (struct timer_slot){due, timer});
}

void timer_stop(struct timers *timers, struct timer *timer) {
  uint32_t place = timer->place;
  if (place == 0)
    return;
  assert(timers->heap[place].timer == timer);
  timer->place = 0;
  struct timer_slot last = timers->heap[timers->count--];
  if (last.timer == timer)
    return;
  if (place > 1 && earlier(&last, &timers->heap[(place + 2) / ARITY]))
    sift_up(timers, place, last);
  else
    sift_down(timers, place, last);
}

void timers_expire(struct timers *timers, double now) {
  uint64_t newer = timers->order;
  while (timers->count > 0 && timers->heap[1].due <= now && timers->heap[1].timer->order < newer) {
    struct timer *timer = timers->heap[1].timer;
    timer_stop(timers, timer);
    timer->fire(timer);
  }
}
