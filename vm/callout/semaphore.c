/*
 * semaphore.c: semaphores, and the end of other threads.  Nobody says when there is something to
 * be had: it is tried again and again.  As with locks (locks.c) no kill or Timeout ends the wait.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <time.h>

#include "callout.h"

/* Waits a little, and longer each time, but not beyond `due`; *pause begins with 0. */
static enum callout_end wait_a_little(struct hub *hub, const char *name, double due,
                                      double *pause) {
  const struct wait_kind kind = {.name = name};
  struct link ring;
  list_init(&ring);
  enum callout_end end =
      callout_wait_firmly(hub, &ring, fmin(due, hub_due(hub, callout_next_pause(pause))), &kind);
  return end == CALLOUT_LATE ? CALLOUT_AGAIN : end;
}

/* ---- semaphores ---- */

/* -1 with EAGAIN: nothing can wait here. */
static int wait_until(struct hub *hub, sem_t *semaphore, double due) {
  double pause = 0;
  for (;;) {
    int result = sem_trywait(semaphore);
    if (result == 0 || errno != EAGAIN)
      return result;
    if (due <= hub_now(hub)) {
      errno = ETIMEDOUT;
      return -1;
    }
    errno = EAGAIN;
    if (wait_a_little(hub, "sem_wait", due, &pause) != CALLOUT_AGAIN)
      return -1;
  }
}

static int callout_sem_wait(sem_t *semaphore) {
  struct hub *hub = callout_hub();
  int result = hub ? wait_until(hub, semaphore, NO_LIMIT) : -1;
  return result == 0 || (hub && errno != EAGAIN) ? result : sem_wait(semaphore);
}

static int callout_sem_timedwait(sem_t *semaphore, const struct timespec *time) {
  struct hub *hub = callout_hub();
  int result = hub ? wait_until(hub, semaphore, callout_due_at(hub, CLOCK_REALTIME, time)) : -1;
  return result == 0 || (hub && errno != EAGAIN) ? result : sem_timedwait(semaphore, time);
}

/* ---- threads ---- */

static int callout_pthread_join(pthread_t thread, void **result) {
  struct hub *hub = callout_hub();
  double pause = 0;
  int error = errno, failure = hub ? pthread_tryjoin_np(thread, result) : EBUSY;
  while (failure == EBUSY && hub &&
         wait_a_little(hub, "pthread_join", NO_LIMIT, &pause) == CALLOUT_AGAIN)
    failure = pthread_tryjoin_np(thread, result);
  errno = error;
  return failure == EBUSY ? pthread_join(thread, result) : failure;
}

const struct callout_name callout_semaphore_names[] = {CALLOUT(sem_wait), CALLOUT(sem_timedwait),
                                                       CALLOUT(pthread_join), CALLOUT_END};
