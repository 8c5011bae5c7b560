/* callout.c: how a wrapper waits (see callout.h). */
#define _GNU_SOURCE
#include "callout.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../io.h"
#include "context.h"
#include "locks.h"

#define TICKS 64   /* calls that found something ready, between two looks at the clock */
#define SLICE 0.01 /* so long without other greenlets is too long */
#define SHORTEST_PAUSE 0.001
#define LONGEST_PAUSE 0.05
#define PATIENCE 2.0 /* of a finalizer */

_Thread_local int callout_barred;

/* ---- in the hub ---- */

static pid_t process; /* that has the hubs; a child of vfork or clone is another, in our memory */

static void note_process(void) { process = getpid(); }

bool callout_is_child(void) { return getpid() != process; }

void callout_open(void) {
  callout_open_conditions();
  note_process();
  pthread_atfork(NULL, NULL, note_process);
}

typedef enum wait_end waiting(struct hub *hub, struct link *ring, double limit,
                              const struct wait_kind *kind);

static enum callout_end wait_by(waiting *wait, struct hub *hub, struct link *ring, double due,
                                const struct wait_kind *kind) {
  struct callout_state state;
  double limit = due == NO_LIMIT ? NO_LIMIT : due - hub_now(hub);
  if (callout_is_child())
    return CALLOUT_REFUSED;
  if (ring && limit <= 0)
    return CALLOUT_LATE;
  callout_leave(hub, &state);
  enum wait_end end = wait(hub, ring, limit, kind);
  callout_return(hub, &state);
  if (end == WAIT_REFUSED)
    return CALLOUT_REFUSED;
  if (end != WAIT_CANCELLED)
    return end == WAIT_NOTIFIED ? CALLOUT_AGAIN : CALLOUT_LATE;
  errno = wait == wait_firmly ? EDEADLK : ECANCELED;
  return CALLOUT_FAILED;
}

enum callout_end callout_wait(struct hub *hub, struct link *ring, double due,
                              const struct wait_kind *kind) {
  return wait_by(wait_quietly, hub, ring, due, kind);
}

enum callout_end callout_wait_firmly(struct hub *hub, struct link *ring, double due,
                                     const struct wait_kind *kind) {
  return wait_by(wait_firmly, hub, ring, due, kind);
}

enum callout_end callout_sleep(struct hub *hub, const char *name, double seconds) {
  const struct wait_kind kind = {.name = name};
  double due = seconds > 0 ? hub_due(hub, seconds) : 0;
  enum callout_end end = callout_wait(hub, NULL, due, &kind);
  return end == CALLOUT_LATE ? CALLOUT_AGAIN : end;
}

double callout_next_pause(double *pause) {
  *pause = *pause ? fmin(*pause * 2, LONGEST_PAUSE) : SHORTEST_PAUSE;
  return *pause;
}

enum callout_end callout_back_off(struct hub *hub, const char *name, double *pause) {
  return callout_sleep(hub, name, callout_next_pause(pause));
}

double callout_due_at(struct hub *hub, clockid_t clock, const struct timespec *time) {
  struct timespec now;
  clock_gettime(clock, &now);
  return hub_due(hub, (double)(time->tv_sec - now.tv_sec) +
                          (double)(time->tv_nsec - now.tv_nsec) * 1e-9);
}

void callout_tick(struct hub *hub) {
  static _Thread_local int ticks;
  if (likely(++ticks < TICKS))
    return;
  ticks = 0;
  if (hub_now(hub) - hub->polled_at > SLICE) {
    int error = errno;
    callout_sleep(hub, "its turn", 0);
    errno = error;
  }
}

/* A finalizer really waits, and holds up everything: not for long. */
enum callout_end callout_wait_patiently(struct hub *hub, struct pollfd *polled, nfds_t count,
                                        double due) {
  if (callout_is_child() || lua_gc(hub_at_work(hub), LUA_GCCOUNT) != -1)
    return CALLOUT_REFUSED;
  double left = due - hub_now(hub);
  int found = poll(polled, count, (int)(fmin(fmax(left, 0), PATIENCE) * 1e3) + 1);
  if (found > 0 || (found < 0 && errno == EINTR))
    return CALLOUT_AGAIN;
  if (found == 0 && left <= PATIENCE)
    return CALLOUT_LATE;
  if (found == 0)
    errno = ETIMEDOUT;
  return CALLOUT_FAILED;
}

/* ---- for a descriptor ---- */

/* Finds out whether it blocks at all, and for how long. */
static enum callout_end begin(struct callout *call) {
  struct timeval limit = {0};
  socklen_t size = sizeof limit;
  int flags = fcntl(call->fd, F_GETFL);
  if (flags == -1)
    return CALLOUT_FAILED;
  errno = EAGAIN;
  if (flags & O_NONBLOCK)
    return CALLOUT_FAILED;
  call->begun = true;
  call->due = NO_LIMIT;
  if (call->option && getsockopt(call->fd, SOL_SOCKET, call->option, &limit, &size) == 0 &&
      (limit.tv_sec || limit.tv_usec))
    call->due = hub_due(call->hub, (double)limit.tv_sec + (double)limit.tv_usec * 1e-6);
  return CALLOUT_AGAIN;
}

enum callout_end callout_wait_fd(struct callout *call) {
  const struct wait_kind kind = {
      .name = call->name, .external = true, .enter = io_enter, .leave = io_leave};
  if (!call->begun && begin(call) == CALLOUT_FAILED)
    return CALLOUT_FAILED;
  struct link *ring = io_find_ring(call->hub, call->fd);
  struct greenlet *g = call->hub->current;
  if (!ring)
    return CALLOUT_REFUSED;
  g->wait.events = (short)call->events;
  g->wait.revents = 0;
  enum callout_end end = callout_wait(call->hub, ring, call->due, &kind);
  if (end == CALLOUT_REFUSED) {
    struct pollfd polled = {.fd = call->fd};
    polled.events = call->events & EV_READ ? POLLIN : POLLOUT;
    end = callout_wait_patiently(call->hub, &polled, 1, call->due);
  }
  if (end == CALLOUT_AGAIN && g->wait.revents == IO_CLOSED) {
    errno = EBADF;
    return CALLOUT_FAILED;
  }
  if (end != CALLOUT_LATE)
    return end;
  errno = EAGAIN;
  return CALLOUT_FAILED;
}

void callout_forget_fd(int fd) {
  struct hub *hub = hub_running;
  if (hub && !hub->closed && !callout_is_child())
    io_disown(hub, fd);
}
