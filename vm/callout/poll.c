/* poll.c: poll, select, epoll_wait and their kin. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "several.h"

/* With a signal mask of its own, a call asks the kernel itself so often: the mask holds there. */
#define MASKED_PERIOD 0.02

static const struct timespec no_time;

static double seconds_of(const struct timespec *time) {
  return time ? (double)time->tv_sec + (double)time->tv_nsec * 1e-9 : -1;
}

static struct timespec timespec_of(double seconds) {
  struct timespec time = {.tv_sec = (time_t)seconds};
  time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
  return time;
}

/* How long until then; NULL: for ever. */
static const struct timespec *until(struct hub *hub, double due, struct timespec *time) {
  double left = due == NO_LIMIT ? 0 : due - hub_now(hub);
  *time = timespec_of(left > 0 ? left : 0);
  return due == NO_LIMIT ? NULL : time;
}

/* When to ask the kernel next, at the latest. */
static double next_look(struct hub *hub, double due, bool masked) {
  return masked ? fmin(due, hub_due(hub, MASKED_PERIOD)) : due;
}

/* ---- poll ---- */

static int poll_until(struct hub *hub, struct pollfd *polled, nfds_t count, double due,
                      const sigset_t *mask) {
  struct timespec time;
  for (;;) {
    int found = ppoll(polled, count, &no_time, mask);
    if (found != 0 || (due != NO_LIMIT && due <= hub_now(hub)))
      return found;
    enum callout_end end =
        callout_wait_several(hub, "poll", polled, count, next_look(hub, due, mask != NULL));
    if (end == CALLOUT_REFUSED)
      return ppoll(polled, count, until(hub, due, &time), mask);
    if (end == CALLOUT_FAILED)
      return -1;
  }
}

static int callout_poll(struct pollfd *polled, nfds_t count, int milliseconds) {
  struct hub *hub = callout_hub();
  if (!hub)
    return poll(polled, count, milliseconds);
  callout_tick(hub);
  int found = poll(polled, count, 0);
  if (found != 0 || milliseconds == 0)
    return found;
  return poll_until(hub, polled, count, callout_due(hub, milliseconds * 1e-3), NULL);
}

CALLOUT_REAL(__poll_chk);
static int callout_poll_chk(struct pollfd *polled, nfds_t count, int milliseconds, size_t room) {
  if (room / sizeof *polled < count)
    callout_overflow();
  return callout_poll(polled, count, milliseconds);
}

static int callout_ppoll(struct pollfd *polled, nfds_t count, const struct timespec *limit,
                         const sigset_t *mask) {
  struct hub *hub = callout_hub();
  if (!hub)
    return ppoll(polled, count, limit, mask);
  callout_tick(hub);
  return poll_until(hub, polled, count, callout_due(hub, seconds_of(limit)), mask);
}

CALLOUT_REAL(__ppoll_chk);
static int callout_ppoll_chk(struct pollfd *polled, nfds_t count, const struct timespec *limit,
                             const sigset_t *mask, size_t room) {
  if (room / sizeof *polled < count)
    callout_overflow();
  return callout_ppoll(polled, count, limit, mask);
}

/* ---- select ---- */

struct sets {
  int count;         /* descriptors from 0 */
  fd_set *given[3];  /* to be read, to be written, urgent */
  fd_set *wanted[3]; /* a copy, for they are replaced by what is ready */
  size_t size;       /* of each in bytes: the caller's may be larger than a fd_set */
  fd_set copies[3];
  char *memory; /* for copies that are larger; NULL */
};

/* False: no memory. */
static bool copy_sets(struct sets *sets) {
  sets->size = ((size_t)sets->count + 63) / 64 * 8;
  if (sets->size > sizeof(fd_set) && !(sets->memory = malloc(3 * sets->size)))
    return false;
  for (int i = 0; i < 3; i++) {
    char *place = sets->memory ? sets->memory + (size_t)i * sets->size : (char *)&sets->copies[i];
    sets->wanted[i] = sets->given[i] ? (fd_set *)place : NULL;
    if (sets->given[i])
      memcpy(place, sets->given[i], sets->size);
  }
  return true;
}

static void restore_sets(const struct sets *sets) {
  for (int i = 0; i < 3; i++)
    if (sets->given[i])
      memcpy(sets->given[i], sets->wanted[i], sets->size);
}

static bool has(const fd_set *set, int fd) {
  return set && (((const unsigned long *)set)[fd / 64] >> fd % 64 & 1);
}

/* Fills `polled`, which has room for all; returns how many there are. */
static nfds_t to_poll(const struct sets *sets, struct pollfd *polled) {
  nfds_t count = 0;
  for (int fd = 0; fd < sets->count; fd++) {
    short events =
        (short)((has(sets->wanted[0], fd) ? POLLIN : 0) | (has(sets->wanted[1], fd) ? POLLOUT : 0) |
                (has(sets->wanted[2], fd) ? POLLPRI : 0));
    if (events)
      polled[count++] = (struct pollfd){.fd = fd, .events = events};
  }
  return count;
}

static enum callout_end wait_for_sets(struct hub *hub, const struct sets *sets, double due) {
  struct pollfd *polled = malloc(((size_t)sets->count + 1) * sizeof *polled);
  if (!polled)
    return CALLOUT_REFUSED;
  enum callout_end end = callout_wait_several(hub, "select", polled, to_poll(sets, polled), due);
  int error = errno;
  free(polled);
  errno = error;
  return end;
}

static int look(struct sets *sets, const struct timespec *limit, const sigset_t *mask) {
  return pselect(sets->count, sets->given[0], sets->given[1], sets->given[2], limit, mask);
}

static int select_until(struct hub *hub, struct sets *sets, double due, const sigset_t *mask) {
  struct timespec time;
  if (!copy_sets(sets))
    return look(sets, until(hub, due, &time), mask);
  for (;;) {
    int found = look(sets, &no_time, mask);
    if (found != 0 || (due != NO_LIMIT && due <= hub_now(hub)))
      return found;
    restore_sets(sets);
    enum callout_end end = wait_for_sets(hub, sets, next_look(hub, due, mask != NULL));
    if (end == CALLOUT_REFUSED)
      return look(sets, until(hub, due, &time), mask);
    if (end == CALLOUT_FAILED)
      return -1;
  }
}

/* The common part: the real functions find fault with what is wrong. */
static int select_sets(struct hub *hub, int count, fd_set *in, fd_set *out, fd_set *urgent,
                       double due, const sigset_t *mask) {
  struct sets sets = {.count = count, .given = {in, out, urgent}};
  callout_tick(hub);
  int found = select_until(hub, &sets, due, mask);
  int error = errno;
  free(sets.memory);
  errno = error;
  return found;
}

static int callout_select(int count, fd_set *in, fd_set *out, fd_set *urgent,
                          struct timeval *limit) {
  struct hub *hub = callout_hub();
  if (!hub || count < 0 || (limit && (limit->tv_sec < 0 || limit->tv_usec < 0)))
    return select(count, in, out, urgent, limit);
  double seconds = limit ? (double)limit->tv_sec + (double)limit->tv_usec * 1e-6 : -1;
  double due = callout_due(hub, seconds);
  int found = select_sets(hub, count, in, out, urgent, due, NULL);
  if (limit) { /* Linux says how much is left of it */
    struct timespec left;
    until(hub, due, &left);
    *limit = (struct timeval){.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000};
  }
  return found;
}

static int callout_pselect(int count, fd_set *in, fd_set *out, fd_set *urgent,
                           const struct timespec *limit, const sigset_t *mask) {
  struct hub *hub = callout_hub();
  if (!hub || count < 0 || (limit && (limit->tv_sec < 0 || limit->tv_nsec < 0)))
    return pselect(count, in, out, urgent, limit, mask);
  double due = callout_due(hub, seconds_of(limit));
  return select_sets(hub, count, in, out, urgent, due, mask);
}

/* ---- epoll ---- */

static int callout_epoll_pwait(int fd, struct epoll_event *events, int count, int milliseconds,
                               const sigset_t *mask) {
  struct hub *hub = callout_hub();
  if (!hub)
    return epoll_pwait(fd, events, count, milliseconds, mask);
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  double due = callout_due(hub, milliseconds * 1e-3);
  callout_tick(hub);
  for (;;) {
    int found = epoll_pwait(fd, events, count, 0, mask);
    double left = due == NO_LIMIT ? -1 : due - hub_now(hub);
    if (found != 0 || milliseconds == 0 || (due != NO_LIMIT && left <= 0))
      return found;
    enum callout_end end =
        callout_wait_several(hub, "epoll_wait", &polled, 1, next_look(hub, due, mask != NULL));
    if (end == CALLOUT_REFUSED)
      return epoll_pwait(fd, events, count, left < 0 ? -1 : (int)ceil(left * 1e3), mask);
    if (end == CALLOUT_FAILED)
      return -1;
  }
}

static int callout_epoll_wait(int fd, struct epoll_event *events, int count, int milliseconds) {
  return callout_epoll_pwait(fd, events, count, milliseconds, NULL);
}

const struct callout_name callout_poll_names[] = {CALLOUT(poll),
                                                  CALLOUT(ppoll),
                                                  CALLOUT(select),
                                                  CALLOUT(pselect),
                                                  CALLOUT(epoll_wait),
                                                  CALLOUT(epoll_pwait),
                                                  CALLOUT_HIDDEN(__poll_chk, poll_chk),
                                                  CALLOUT_HIDDEN(__ppoll_chk, ppoll_chk),
                                                  CALLOUT_END};
