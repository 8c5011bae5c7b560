/*
 * condition.c: condition variables of C libraries.
 *
 * A greenlet that waits for one waits in the hub.  Whoever signals it, in any thread, looks for
 * greenlets that wait for it, and signals the threads that really wait as well: they are used to
 * wake up for nothing.
 * A kill or Timeout lets a limited wait be over; one without a limit ends when it is signalled.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <time.h>

#include "../async.h"
#include "callout.h"
#include "locks.h"

#define BREATH 0.001 /* a wait that is over lasts so long, should it be begun again and again */

/* A greenlet that waits, of whatever thread. */
struct sleeper {
  struct link link;
  const pthread_cond_t *condition;
  bool signalled;
  const struct hub *hub;
  struct wakeup wakeup;
};

static struct link sleepers = {&sleepers, &sleepers};
static atomic_uint count; /* of those that have not been signalled */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

/* ---- waiting ---- */

static bool begin(struct sleeper *sleeper, struct hub *hub, const pthread_cond_t *condition) {
  *sleeper = (struct sleeper){.condition = condition, .hub = hub};
  if (wakeup_init(&sleeper->wakeup, hub) != 0)
    return false;
  pthread_mutex_lock(&guard);
  list_append(&sleepers, &sleeper->link);
  atomic_fetch_add(&count, 1);
  pthread_mutex_unlock(&guard);
  return true;
}

/* Returns whether it has been signalled. */
static bool end(struct sleeper *sleeper) {
  pthread_mutex_lock(&guard);
  bool signalled = sleeper->signalled;
  if (!signalled) {
    list_remove(&sleeper->link);
    atomic_fetch_sub(&count, 1);
  }
  pthread_mutex_unlock(&guard);
  wakeup_drop(&sleeper->wakeup);
  return signalled;
}

static enum callout_end wait_signal(struct hub *hub, struct sleeper *sleeper, double due) {
  const struct wait_kind kind = {
      .name = "pthread_cond_wait", .external = true, .enter = wakeup_enter, .leave = wakeup_leave};
  struct link *ring = &sleeper->wakeup.waiting;
  if (due == NO_LIMIT)
    return callout_wait_firmly(hub, ring, due, &kind);
  enum callout_end end = callout_wait(hub, ring, due, &kind);
  if (end != CALLOUT_FAILED)
    return end;
  return callout_wait_firmly(hub, ring, fmin(due, hub_due(hub, BREATH)), &kind);
}

/* Sets *refused if nothing could wait, and nothing has come. */
static int sleep_on(struct hub *hub, pthread_cond_t *condition, pthread_mutex_t *mutex, double due,
                    bool *refused) {
  struct sleeper sleeper;
  int error = errno;
  *refused = !begin(&sleeper, hub, condition);
  if (*refused)
    return 0;
  int failure = callout_unlock_mutex(mutex);
  if (failure) {
    end(&sleeper);
    return failure;
  }
  enum callout_end how = wait_signal(hub, &sleeper, due);
  bool signalled = end(&sleeper);
  failure = callout_lock_mutex(mutex);
  errno = error;
  *refused = !signalled && how == CALLOUT_REFUSED;
  return failure || signalled || due == NO_LIMIT ? failure : ETIMEDOUT;
}

static int callout_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  struct hub *hub = callout_hub();
  bool refused = true;
  int failure = hub ? sleep_on(hub, condition, mutex, NO_LIMIT, &refused) : 0;
  return refused ? pthread_cond_wait(condition, mutex) : failure;
}

/* The clock by which its limits are meant. */
static clockid_t clock_of(const pthread_cond_t *condition) {
#ifdef __GLIBC__
  return condition->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
#else
  return (void)condition, CLOCK_REALTIME;
#endif
}

static int callout_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                          const struct timespec *time) {
  struct hub *hub = callout_hub();
  bool refused = true;
  int result = 0;
  if (hub) {
    double due = callout_due_at(hub, clock_of(condition), time);
    result = sleep_on(hub, condition, mutex, due, &refused);
  }
  return refused ? pthread_cond_timedwait(condition, mutex, time) : result;
}

/* It is not everywhere; where it is called, it is. */
extern int
real_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                            const struct timespec *time) __asm__("pthread_cond_clockwait")
    __attribute__((weak));

static int callout_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                          clockid_t clock, const struct timespec *time) {
  struct hub *hub = callout_hub();
  bool refused = true;
  int result = 0;
  if (hub)
    result = sleep_on(hub, condition, mutex, callout_due_at(hub, clock, time), &refused);
  return refused ? real_pthread_cond_clockwait(condition, mutex, clock, time) : result;
}

/* ---- signalling ---- */

/* The guard keeps the sleeper where it is until it has been told. */
static void wake(struct sleeper *sleeper) {
  list_remove(&sleeper->link);
  atomic_fetch_sub(&count, 1);
  sleeper->signalled = true;
  if (sleeper->hub == hub_running)
    wait_notify(&sleeper->wakeup.waiting);
  else
    wakeup_send(&sleeper->wakeup);
}

/* Wakes the greenlet that has waited longest, or all. */
static void wake_sleepers(const pthread_cond_t *condition, bool all) {
  pthread_mutex_lock(&guard);
  list_each(it, &sleepers) {
    struct sleeper *sleeper = container_of(it, struct sleeper, link);
    if (sleeper->condition != condition)
      continue;
    wake(sleeper);
    if (!all)
      break;
  }
  pthread_mutex_unlock(&guard);
}

static int callout_pthread_cond_signal(pthread_cond_t *condition) {
  if (atomic_load(&count) > 0)
    wake_sleepers(condition, false);
  return pthread_cond_signal(condition);
}

static int callout_pthread_cond_broadcast(pthread_cond_t *condition) {
  if (atomic_load(&count) > 0)
    wake_sleepers(condition, true);
  return pthread_cond_broadcast(condition);
}

/* ---- at a fork ---- */

static void before_fork(void) { pthread_mutex_lock(&guard); }

static void after_fork(void) { pthread_mutex_unlock(&guard); }

void callout_open_conditions(void) { pthread_atfork(before_fork, after_fork, after_fork); }

const struct callout_name callout_condition_names[] = {
    CALLOUT(pthread_cond_wait),
    CALLOUT(pthread_cond_timedwait),
    CALLOUT_HIDDEN(pthread_cond_clockwait, pthread_cond_clockwait),
    CALLOUT(pthread_cond_signal),
    CALLOUT(pthread_cond_broadcast),
    CALLOUT_END};
