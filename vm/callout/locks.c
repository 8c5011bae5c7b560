/*
 * locks.c: mutexes and read-write locks of C libraries, which a greenlet holds while it waits.
 *
 * They are the thread's, and other greenlets of the thread would wait for ever, or be let in where
 * the lock is recursive.  So it is noted who has got which (held.h): others wait in the hub.
 * A lock that another thread holds is really waited for, a moment; then it is tried again and
 * again.  No kill or Timeout ends a wait for a lock: no library expects that.
 */
#define _GNU_SOURCE
#include "locks.h"

#include <errno.h>
#include <math.h>
#include <time.h>

#include "held.h"

#define MOMENT 0.001 /* most locks are released sooner */

/* How something is locked. */
struct kind {
  const char *name;
  int (*try)(void *lock);
  int (*lock)(void *lock, const struct timespec *until); /* in CLOCK_REALTIME; NULL: for ever */
  int (*unlock)(void *lock);
  bool exclusive;
  bool (*is_recursive)(const void *lock); /* lets the thread in that holds it; NULL: never */
};

/* ---- the three ways ---- */

static int try_mutex(void *lock) { return pthread_mutex_trylock(lock); }

static int lock_mutex(void *lock, const struct timespec *until) {
  return until ? pthread_mutex_timedlock(lock, until) : pthread_mutex_lock(lock);
}

static int unlock_mutex(void *lock) { return pthread_mutex_unlock(lock); }

static bool is_recursive(const void *lock) {
#ifdef __GLIBC__
  const pthread_mutex_t *mutex = lock;
  return (mutex->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE_NP;
#else
  return (void)lock, true;
#endif
}

static const struct kind mutex_kind = {"pthread_mutex_lock", try_mutex, lock_mutex,
                                       unlock_mutex,         true,      is_recursive};

static int unlock_rwlock(void *lock) { return pthread_rwlock_unlock(lock); }

static int try_reading(void *lock) { return pthread_rwlock_tryrdlock(lock); }

static int lock_reading(void *lock, const struct timespec *until) {
  return until ? pthread_rwlock_timedrdlock(lock, until) : pthread_rwlock_rdlock(lock);
}

static const struct kind reading_kind = {"pthread_rwlock_rdlock", try_reading, lock_reading,
                                         unlock_rwlock,           false,       NULL};

static int try_writing(void *lock) { return pthread_rwlock_trywrlock(lock); }

static int lock_writing(void *lock, const struct timespec *until) {
  return until ? pthread_rwlock_timedwrlock(lock, until) : pthread_rwlock_wrlock(lock);
}

static const struct kind writing_kind = {"pthread_rwlock_wrlock", try_writing, lock_writing,
                                         unlock_rwlock,           true,        NULL};

/* ---- getting one ---- */

/* EOWNERDEAD: it has been got, and is to be mended. */
static bool is_got(int failure) { return failure == 0 || failure == EOWNERDEAD; }

/* Whether another greenlet holds it that lets nobody in, though the system would. */
static bool is_taken(const struct hub *hub, const struct held *held, const struct kind *kind) {
  return held && held->count && !held_by(held, hub->current) && kind->is_recursive &&
         kind->is_recursive(held->lock) && held_owner(hub, held);
}

static int try_lock(const struct hub *hub, void *lock, const struct kind *kind) {
  return is_taken(hub, held_find(lock), kind) ? EBUSY : kind->try(lock);
}

/* The system has given it.  A record of another greenlet is of one that let somebody else release
   it, or that has ended. */
static void note(const struct hub *hub, void *lock, const struct kind *kind) {
  struct held *held = held_find(lock);
  if (!held && !(held = held_add(lock)))
    return;
  if (kind->exclusive && !held_by(held, hub->current))
    held->count = 0;
  held_get(held, hub->current);
}

/* ---- waiting for one ---- */

static struct timespec from_now(double seconds) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  double whole = floor(seconds);
  time.tv_sec += (time_t)whole;
  time.tv_nsec += (long)((seconds - whole) * 1e9);
  if (time.tv_nsec >= 1000000000) {
    time.tv_sec++;
    time.tv_nsec -= 1000000000;
  }
  return time;
}

/* Holds up the thread so long; 0 only asks, and hears of a deadlock. */
static int lock_within(void *lock, const struct kind *kind, double seconds) {
  struct timespec until = from_now(seconds);
  return kind->lock(lock, &until);
}

/* No greenlet can wait here, such as in a finalizer.  What another greenlet holds is not to be had
   then: the library hears of it, and if it does not listen its release is let pass. */
static int lock_really(struct hub *hub, void *lock, const struct kind *kind,
                       const struct timespec *until) {
  int failure = try_lock(hub, lock, kind);
  struct held *held = held_find(lock);
  if (failure != EBUSY)
    return failure;
  if (!held || !held->count || held_by(held, hub->current))
    return kind->lock(lock, until);
  if (until)
    return ETIMEDOUT;
  held_complain(hub, held, kind->name);
  held->strays++;
  return EDEADLK;
}

/* Waits until it may be free.  Another thread does not say when. */
static enum callout_end wait_for_lock(struct hub *hub, void *lock, const struct kind *kind,
                                      double due, double *pause) {
  struct held *held = held_find(lock);
  if (!callout_hub() || (!held && !(held = held_add(lock))))
    return CALLOUT_REFUSED;
  if (!held->count)
    due = fmin(due, hub_due(hub, callout_next_pause(pause)));
  return held_wait(hub, held, kind->name, due);
}

/* It could not be got at once.  Until then at the latest; NULL: for ever. */
static int contend(struct hub *hub, void *lock, const struct kind *kind,
                   const struct timespec *until, double due) {
  double pause = 0;
  bool asked = false;
  for (;;) {
    const struct held *held = held_find(lock);
    bool own = held && held_by(held, hub->current);
    if (!asked && (own || !held || !held->count)) {
      int failure = lock_within(lock, kind, own ? 0 : fmin(MOMENT, due - hub_now(hub)));
      if (failure != ETIMEDOUT)
        return failure;
      asked = true;
    }
    if (due <= hub_now(hub))
      return ETIMEDOUT;
    enum callout_end end = wait_for_lock(hub, lock, kind, due, &pause);
    if (end == CALLOUT_REFUSED || end == CALLOUT_FAILED)
      return lock_really(hub, lock, kind, until);
    int failure = try_lock(hub, lock, kind);
    if (failure != EBUSY)
      return failure;
  }
}

static int contend_noted(struct hub *hub, void *lock, const struct kind *kind, clockid_t clock,
                         const struct timespec *time) {
  int error = errno;
  double due = time ? callout_due_at(hub, clock, time) : NO_LIMIT;
  struct timespec until = from_now(time ? due - hub_now(hub) : 0);
  int failure = contend(hub, lock, kind, time ? &until : NULL, due);
  if (is_got(failure))
    note(hub, lock, kind);
  errno = error;
  return failure;
}

/* ---- the wrappers' common parts ---- */

/* Gets it if the system gives it and no greenlet has to be asked; EBUSY. */
static int get_at_once(const struct hub *hub, void *lock, const struct kind *kind) {
  int failure = try_lock(hub, lock, kind);
  if (is_got(failure))
    note(hub, lock, kind);
  return failure;
}

/* After a try that was not a plain success. */
static __attribute__((noinline)) int get_after(struct hub *hub, void *lock, const struct kind *kind,
                                               int failure) {
  if (is_got(failure))
    note(hub, lock, kind);
  return failure == EBUSY ? contend_noted(hub, lock, kind, 0, NULL) : failure;
}

static __attribute__((noinline)) int get_slowly(struct hub *hub, void *lock,
                                                const struct kind *kind) {
  return get_after(hub, lock, kind, try_lock(hub, lock, kind));
}

static int get_until(void *lock, const struct kind *kind, clockid_t clock,
                     const struct timespec *time) {
  struct hub *hub = hub_running;
  int failure = get_at_once(hub, lock, kind);
  return failure == EBUSY ? contend_noted(hub, lock, kind, clock, time) : failure;
}

static int get_or_leave(void *lock, const struct kind *kind) {
  const struct hub *hub = hub_running;
  return hub ? get_at_once(hub, lock, kind) : kind->try(lock);
}

/* Of readers all may go on when one may. */
static void tell(struct held *held, const struct kind *kind) {
  if (kind->exclusive)
    wait_notify(&held->waiting);
  else
    wait_notify_all(&held->waiting);
  held_trim(held);
}

static __attribute__((noinline)) int give_slowly(const struct hub *hub, void *lock,
                                                 const struct kind *kind) {
  struct held *held = held_find(lock);
  if (!held)
    return kind->unlock(lock);
  if (held->strays && !held_by(held, hub->current)) {
    held->strays--;
    held_trim(held);
    return 0;
  }
  int failure = kind->unlock(lock);
  if (!failure && held->count && --held->count == 0)
    tell(held, kind);
  return failure;
}

/* Most locks are free, and others are not held at the same time. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE int get(void *lock, const struct kind *kind) {
  struct hub *hub = hub_running;
  if (!hub)
    return kind->lock(lock, NULL);
  struct held **bucket = likely(held_spare != NULL) ? held_bucket(lock) : NULL;
  if (unlikely(!bucket || *bucket))
    return get_slowly(hub, lock, kind);
  int failure = kind->try(lock);
  if (unlikely(failure))
    return get_after(hub, lock, kind, failure);
  held_get(held_take(bucket, lock), hub->current);
  return 0;
}

ALWAYS_INLINE int give(void *lock, const struct kind *kind) {
  const struct hub *hub = hub_running;
  if (!hub || !held_buckets)
    return kind->unlock(lock);
  struct held **bucket = held_bucket(lock), *held = *bucket;
  if (unlikely(!held || held->lock != lock || held->count != 1 || held->strays || held->waiters))
    return give_slowly(hub, lock, kind);
  int failure = kind->unlock(lock);
  if (likely(!failure)) {
    held->count = 0;
    held_drop(bucket);
  }
  return failure;
}

/* Those that name the clock are not everywhere; where one is called, it is. */
#define CLOCKED(name)                                                                              \
  extern int real_##name(void *, clockid_t, const struct timespec *) __asm__(#name)                \
      __attribute__((weak))

/* ---- mutexes ---- */

int callout_lock_mutex(pthread_mutex_t *mutex) { return get(mutex, &mutex_kind); }

static int callout_pthread_mutex_trylock(pthread_mutex_t *mutex) {
  return get_or_leave(mutex, &mutex_kind);
}

static int callout_pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *time) {
  return hub_running ? get_until(mutex, &mutex_kind, CLOCK_REALTIME, time)
                     : pthread_mutex_timedlock(mutex, time);
}

CLOCKED(pthread_mutex_clocklock);
static int callout_pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
                                           const struct timespec *time) {
  return hub_running ? get_until(mutex, &mutex_kind, clock, time)
                     : real_pthread_mutex_clocklock(mutex, clock, time);
}

int callout_unlock_mutex(pthread_mutex_t *mutex) { return give(mutex, &mutex_kind); }

/* ---- read-write locks ---- */

static int callout_pthread_rwlock_rdlock(pthread_rwlock_t *lock) {
  return get(lock, &reading_kind);
}

static int callout_pthread_rwlock_tryrdlock(pthread_rwlock_t *lock) {
  return get_or_leave(lock, &reading_kind);
}

static int callout_pthread_rwlock_timedrdlock(pthread_rwlock_t *lock, const struct timespec *time) {
  return hub_running ? get_until(lock, &reading_kind, CLOCK_REALTIME, time)
                     : pthread_rwlock_timedrdlock(lock, time);
}

CLOCKED(pthread_rwlock_clockrdlock);
static int callout_pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock,
                                              const struct timespec *time) {
  return hub_running ? get_until(lock, &reading_kind, clock, time)
                     : real_pthread_rwlock_clockrdlock(lock, clock, time);
}

static int callout_pthread_rwlock_wrlock(pthread_rwlock_t *lock) {
  return get(lock, &writing_kind);
}

static int callout_pthread_rwlock_trywrlock(pthread_rwlock_t *lock) {
  return get_or_leave(lock, &writing_kind);
}

static int callout_pthread_rwlock_timedwrlock(pthread_rwlock_t *lock, const struct timespec *time) {
  return hub_running ? get_until(lock, &writing_kind, CLOCK_REALTIME, time)
                     : pthread_rwlock_timedwrlock(lock, time);
}

CLOCKED(pthread_rwlock_clockwrlock);
static int callout_pthread_rwlock_clockwrlock(pthread_rwlock_t *lock, clockid_t clock,
                                              const struct timespec *time) {
  return hub_running ? get_until(lock, &writing_kind, clock, time)
                     : real_pthread_rwlock_clockwrlock(lock, clock, time);
}

static int callout_pthread_rwlock_unlock(pthread_rwlock_t *lock) {
  return give(lock, &reading_kind);
}

const struct callout_name callout_locks_names[] = {
    {"pthread_mutex_lock", (void *)callout_lock_mutex, (void *)pthread_mutex_lock, false, NULL},
    CALLOUT(pthread_mutex_trylock),
    CALLOUT(pthread_mutex_timedlock),
    CALLOUT_HIDDEN(pthread_mutex_clocklock, pthread_mutex_clocklock),
    {"pthread_mutex_unlock", (void *)callout_unlock_mutex, (void *)pthread_mutex_unlock, false,
     NULL},
    CALLOUT(pthread_rwlock_rdlock),
    CALLOUT(pthread_rwlock_tryrdlock),
    CALLOUT(pthread_rwlock_timedrdlock),
    CALLOUT_HIDDEN(pthread_rwlock_clockrdlock, pthread_rwlock_clockrdlock),
    CALLOUT(pthread_rwlock_wrlock),
    CALLOUT(pthread_rwlock_trywrlock),
    CALLOUT(pthread_rwlock_timedwrlock),
    CALLOUT_HIDDEN(pthread_rwlock_clockwrlock, pthread_rwlock_clockwrlock),
    CALLOUT(pthread_rwlock_unlock),
    CALLOUT_END};
