/* filelock.c: locks on files.  Nobody says when one is free: it is tried again and again. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <unistd.h>

#include "callout.h"

/* After a try that found it locked: what comes next. */
static enum callout_end try_later(struct hub *hub, const char *name, double *pause) {
  return errno == EWOULDBLOCK || errno == EACCES ? callout_back_off(hub, name, pause)
                                                 : CALLOUT_FAILED;
}

static int callout_flock(int fd, int operation) {
  struct hub *hub = callout_hub();
  double pause = 0;
  if (!hub || (operation & (LOCK_NB | LOCK_UN)))
    return flock(fd, operation);
  while (flock(fd, operation | LOCK_NB) != 0) {
    enum callout_end end = try_later(hub, "flock", &pause);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? flock(fd, operation) : -1;
  }
  return 0;
}

static int callout_lockf(int fd, int operation, off_t size) {
  struct hub *hub = callout_hub();
  double pause = 0;
  if (!hub || operation != F_LOCK)
    return lockf(fd, operation, size);
  while (lockf(fd, F_TLOCK, size) != 0) {
    enum callout_end end = try_later(hub, "lockf", &pause);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? lockf(fd, operation, size) : -1;
  }
  return 0;
}

/* The twin of a command that does not wait; 0: it does not either. */
static int without_waiting(int command) {
  return command == F_SETLKW ? F_SETLK : command == F_OFD_SETLKW ? F_OFD_SETLK : 0;
}

static int callout_fcntl(int fd, int command, ...) {
  struct hub *hub = callout_hub();
  double pause = 0;
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (!hub || !without_waiting(command))
    return fcntl(fd, command, argument);
  while (fcntl(fd, without_waiting(command), argument) != 0) {
    enum callout_end end = try_later(hub, "fcntl", &pause);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? fcntl(fd, command, argument) : -1;
  }
  return 0;
}

CALLOUT_REAL(fcntl64);
CALLOUT_REAL(lockf64);

const struct callout_name callout_filelock_names[] = {CALLOUT(flock),
                                                      CALLOUT(lockf),
                                                      CALLOUT(fcntl),
                                                      CALLOUT_HIDDEN(fcntl64, fcntl),
                                                      CALLOUT_HIDDEN(lockf64, lockf),
                                                      CALLOUT_END};
