/* timer.c: runs, the heap and the far timers (see timer.h). */
#include "timer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Children of place p are 4p-8 .. 4p-5: with the root at 3, they share a line of the cache. */
enum { ROOT = 3, ARITY = 4, LINE = 64 };

#define FEW 1024   /* are in the heap, all of them */
#define SAMPLES 32 /* from which the part of more is chosen that is */
#define BATCH 32   /* timers that expire together */

static uint32_t max(uint32_t a, uint32_t b) { return a > b ? a : b; }

static uint32_t parent_of(uint32_t place) { return place / ARITY + 2; }

static uint32_t first_child_of(uint32_t place) { return (place - 2) * ARITY; }

void timers_init(struct timers *timers) {
  *timers = (struct timers){.near = ROOT, .end = ROOT, .border = UINT64_MAX, .most = FEW};
  for (int i = 0; i < TIMER_RUNS; i++)
    list_init(&timers->runs[i]);
}

void timers_clear(struct timers *timers) {
  free(timers->slots);
  free(timers->numbered);
  timers_init(timers);
}

bool timers_grow(struct timers *timers) {
  uint32_t old = timers->capacity, capacity = old ? old * 2 : 16;
  struct timer_slot *slots = aligned_alloc(LINE, capacity * sizeof *slots);
  struct timer **numbered = realloc(timers->numbered, capacity * sizeof *numbered);
  if (numbered)
    timers->numbered = numbered;
  if (!slots || !numbered) {
    free(slots);
    return false;
  }
  if (old)
    memcpy(slots, timers->slots, old * sizeof *slots);
  for (uint32_t place = old; place < capacity; place++)
    slots[place] = (struct timer_slot){.due = UINT64_MAX, .number = place};
  free(timers->slots);
  timers->slots = slots;
  timers->capacity = capacity;
  return true;
}

/* ---- the heap ---- */

/* The order of positive numbers is that of their bits. */
static uint64_t bits(double due) {
  uint64_t result;
  due = due > 0 ? due : 0;
  memcpy(&result, &due, sizeof result);
  return result;
}

/* Without a branch, which nobody could foretell. */
static inline bool earlier(const struct timer_slot *a, const struct timer_slot *b) {
  return (a->due < b->due) | ((a->due == b->due) & ((int32_t)(a->order - b->order) < 0));
}

/* What follows the heap is due later than everything in it. */
static inline uint32_t earliest_child(const struct timer_slot *slots, uint32_t first) {
  uint32_t left = first + earlier(&slots[first + 1], &slots[first]);
  uint32_t right = first + 2 + earlier(&slots[first + 3], &slots[first + 2]);
  return earlier(&slots[right], &slots[left]) ? right : left;
}

static void sift_up(struct timer_slot *slots, uint32_t place, struct timer_slot slot) {
  while (place > ROOT && earlier(&slot, &slots[parent_of(place)])) {
    slots[place] = slots[parent_of(place)];
    place = parent_of(place);
  }
  slots[place] = slot;
}

/* Puts the slot, which was the last, in place of the first: it goes all the way down, and back. */
static void replace_first(const struct timers *timers, struct timer_slot slot) {
  struct timer_slot *slots = timers->slots;
  uint32_t place = ROOT;
  for (uint32_t child; (child = first_child_of(place)) < timers->near; place = child) {
    child = earliest_child(slots, child);
    slots[place] = slots[child];
  }
  sift_up(slots, place, slot);
}

/* ---- near and far ---- */

/* The second of a random sample, which is about the 16th part of the way to the last. */
static uint64_t early_due(const struct timers *timers, uint32_t count) {
  uint64_t first = UINT64_MAX, second = UINT64_MAX, random = timers->order;
  for (int i = 0; i < SAMPLES; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t due = timers->slots[ROOT + (random >> 33) % count].due;
    second = due < first ? first : due < second ? due : second;
    first = due < first ? due : first;
  }
  return second;
}

/* Makes a heap of those that are due first; a part of it again when it has grown too large. */
static void choose_near(struct timers *timers) {
  struct timer_slot *slots = timers->slots;
  uint32_t count = timers->end - ROOT;
  timers->border = count > FEW ? early_due(timers, count) + 1 : UINT64_MAX;
  timers->near = ROOT;
  for (uint32_t place = ROOT; place < timers->end; place++) {
    struct timer_slot slot = slots[place];
    if (slot.due >= timers->border)
      continue;
    slots[place] = slots[timers->near];
    sift_up(slots, timers->near++, slot);
  }
  timers->most = max(FEW, max(timers->near * 2, timers->end / 4));
}

static struct timer_slot slot_of(const struct timer *timer) {
  return (struct timer_slot){bits(timer->due), (uint32_t)timer->order, timer->number};
}

static void push(struct timers *timers, struct timer *timer) {
  struct timer_slot *last = &timers->slots[timers->end++];
  timer->number = last->number;
  timers->numbered[timer->number] = timer;
  *last = slot_of(timer);
  if (last->due >= timers->border)
    return;
  struct timer_slot slot = *last;
  *last = timers->slots[timers->near];
  sift_up(timers->slots, timers->near++, slot);
  if (timers->near > timers->most)
    choose_near(timers);
}

static void drop_first(struct timers *timers) {
  struct timer_slot *slots = timers->slots, last = slots[--timers->near];
  uint32_t number = slots[ROOT].number;
  slots[timers->near] = slots[--timers->end];
  slots[timers->end] = (struct timer_slot){.due = UINT64_MAX, .number = number};
  if (timers->near > ROOT)
    replace_first(timers, last);
}

/* The numbers of those that were stopped become free. */
static void drop_stopped(struct timers *timers) {
  struct timer_slot *slots = timers->slots;
  uint32_t end = ROOT;
  for (uint32_t place = ROOT; place < timers->end; place++) {
    struct timer_slot slot = slots[place];
    if (!timers->numbered[slot.number])
      continue;
    slots[place] = slots[end];
    slots[end++] = slot;
  }
  for (uint32_t place = end; place < timers->end; place++)
    slots[place].due = UINT64_MAX;
  timers->end = end;
  timers->stopped = 0;
  choose_near(timers);
}

/* Whether the heap has a first entry, unless there are no others either. */
static bool has_near(struct timers *timers) {
  if (timers->near == ROOT && timers->end > ROOT)
    choose_near(timers);
  return timers->near > ROOT;
}

/* The first entry whose timer runs, or NULL. */
static const struct timer_slot *first_running(struct timers *timers) {
  while (has_near(timers)) {
    if (timers->numbered[timers->slots[ROOT].number])
      return &timers->slots[ROOT];
    timers->stopped--;
    drop_first(timers);
  }
  return NULL;
}

/* ---- the runs ---- */

static struct timer *in_run(struct link *link) { return container_of(link, struct timer, link); }

/* Appends the timer, which is the latest started, to a run in which nothing is due later. */
static bool join_run(struct timers *timers, struct timer *timer) {
  for (int i = 0; i < TIMER_RUNS; i++) {
    struct link *run = &timers->runs[i];
    if (list_empty(run) || in_run(run->prev)->due <= timer->due) {
      list_append(run, &timer->link);
      timer->number = TIMER_IN_RUN;
      return true;
    }
  }
  return false;
}

/* ---- all of them ---- */

void timer_start(struct timers *timers, struct timer *timer, double due) {
  assert(!timer_running(timer) && timers->end < timers->capacity);
  timer->due = due;
  timer->order = timers->order++;
  timers->count++;
  if (!join_run(timers, timer))
    push(timers, timer);
}

void timer_stop(struct timers *timers, struct timer *timer) {
  uint32_t number = timer->number;
  if (number == 0)
    return;
  timer->number = 0;
  timers->count--;
  if (number == TIMER_IN_RUN) {
    list_remove(&timer->link);
    return;
  }
  timers->numbered[number] = NULL;
  if (++timers->stopped > timers->end / 2)
    drop_stopped(timers);
}

static bool precedes(const struct timer *a, const struct timer *b) {
  return a->due < b->due || (a->due == b->due && a->order < b->order);
}

/* The first of all runs, or NULL. */
static struct timer *first_in_runs(const struct timers *timers) {
  struct timer *best = NULL;
  for (int i = 0; i < TIMER_RUNS; i++) {
    const struct link *run = &timers->runs[i];
    if (!list_empty(run) && (!best || precedes(in_run(run->next), best)))
      best = in_run(run->next);
  }
  return best;
}

double timers_next(struct timers *timers) {
  const struct timer_slot *first = first_running(timers);
  const struct timer *other = first_in_runs(timers);
  const struct timer *timer = first ? timers->numbered[first->number] : other;
  return other && other->due < timer->due ? other->due : timer->due;
}

/* A timer found to be due: in a run, or known by its number. */
struct found {
  struct timer *timer;
  uint32_t number;
};

/* Takes out the earliest of all if it is due by then. */
static bool take_due(struct timers *timers, uint64_t now, struct found *found) {
  const struct timer_slot *first = &timers->slots[ROOT];
  bool heaped = has_near(timers) && first->due <= now;
  struct timer *other = first_in_runs(timers);
  struct timer_slot its = other ? slot_of(other) : (struct timer_slot){.due = UINT64_MAX};
  if (its.due <= now && !(heaped && earlier(first, &its))) {
    list_remove(&other->link);
    *found = (struct found){.timer = other};
    return true;
  }
  if (heaped) {
    *found = (struct found){.number = first->number};
    drop_first(timers);
  }
  return heaped;
}

/*
 * Moves those that are due to a ring.  Where many timers are, each is far from all others: a
 * batch of them is fetched into the cache at once.
 */
static void collect_due(struct timers *timers, uint64_t now, struct link *ring) {
  struct found batch[BATCH];
  int count;
  do {
    for (count = 0; count < BATCH && take_due(timers, now, &batch[count]); count++)
      ;
    for (int i = 0; i < count; i++) {
      if (!batch[i].timer)
        batch[i].timer = timers->numbered[batch[i].number];
      __builtin_prefetch(batch[i].timer, 1);
    }
    for (int i = 0; i < count; i++) {
      if (!batch[i].timer) {
        timers->stopped--;
        continue;
      }
      batch[i].timer->number = TIMER_IN_RUN;
      list_append(ring, &batch[i].timer->link);
    }
  } while (count == BATCH);
}

void timers_expire(struct timers *timers, double now) {
  struct link due;
  list_init(&due);
  collect_due(timers, bits(now), &due);
  while (!list_empty(&due)) {
    struct timer *timer = in_run(due.next);
    timer_stop(timers, timer);
    timer->fire(timer);
  }
}
