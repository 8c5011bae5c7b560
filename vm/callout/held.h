/*
 * held.h: which greenlets of this thread hold which locks of C libraries.
 *
 * To the system the thread holds them all.  A record is there from the moment when a greenlet
 * has got a lock until it has been released and nobody in the thread waits for it any more.
 */
#ifndef MOONLET_CALLOUT_HELD_H
#define MOONLET_CALLOUT_HELD_H

#include <stdint.h>

#include "callout.h"

#define HELD_BUCKETS 256 /* a byte of the hash */

struct held {
  struct held *next; /* in its bucket */
  const void *lock;
  const struct greenlet *owner; /* who got it last; NULL: the hub itself.  It may be gone: */
  uint64_t id;                  /* its number, that no other greenlet has */
  unsigned count;               /* how often it has been got and not released */
  unsigned strays;              /* releases to come from those who could not wait for it */
  unsigned waiters;             /* greenlets that wait for it, or have just been woken */
  struct link waiting;          /* ring of the former */
};

/* NULL: there was no lock yet. */
extern _Thread_local struct held **held_buckets __attribute__((tls_model("initial-exec")));

/* Records that are not in use: of no lock, and nobody holds it or waits for it. */
extern _Thread_local struct held *held_spare __attribute__((tls_model("initial-exec")));

static inline struct held **held_bucket(const void *lock) {
  return &held_buckets[(uintptr_t)lock * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}

/* Its record; NULL: no greenlet of this thread holds it or waits for it. */
static inline struct held *held_find(const void *lock) {
  struct held *held = likely(held_buckets != NULL) ? *held_bucket(lock) : NULL;
  while (held && held->lock != lock)
    held = held->next;
  return held;
}

static inline bool held_by(const struct held *held, const struct greenlet *g) {
  return held->count && held->owner == g && (!g || held->id == g->id);
}

/* A new record, of a lock that nobody holds; NULL: out of memory. */
struct held *held_add(const void *lock);

/* The same where there is a spare one; and the first of a bucket becomes one again. */
static inline struct held *held_take(struct held **bucket, const void *lock) {
  struct held *held = held_spare;
  held_spare = held->next;
  held->next = *bucket;
  held->lock = lock;
  *bucket = held;
  return held;
}

static inline void held_drop(struct held **bucket) {
  struct held *held = *bucket;
  *bucket = held->next;
  held->next = held_spare;
  held_spare = held;
}

/* The greenlet has got it once more, or from now on; NULL: the hub. */
static inline void held_get(struct held *held, const struct greenlet *g) {
  held->count++;
  held->owner = g;
  held->id = g ? g->id : 0;
}

/* It has been released, or is not waited for any more: removes the record if that was all. */
void held_trim(struct held *held);

/* The greenlet that holds it, in the hub; NULL: none that still lives. */
struct greenlet *held_owner(const struct hub *hub, const struct held *held);

/*
 * Waits until the lock is released by a greenlet of this thread, but not longer than until `due`.
 * `name` is the function's.  The record may be gone afterwards.
 */
enum callout_end held_wait(struct hub *hub, struct held *held, const char *name, double due);

/* It cannot be waited for: says so on stderr. */
void held_complain(const struct hub *hub, const struct held *held, const char *name);

#endif
