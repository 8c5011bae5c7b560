/* close.c: who waits for a descriptor that another greenlet closes finds it closed. */
#define _GNU_SOURCE
#include <unistd.h>

#include "callout.h"

static int callout_close(int fd) {
  callout_forget_fd(fd);
  return close(fd);
}

static int callout_dup2(int fd, int copy) {
  if (fd != copy)
    callout_forget_fd(copy);
  return dup2(fd, copy);
}

static int callout_dup3(int fd, int copy, int flags) {
  if (fd != copy)
    callout_forget_fd(copy);
  return dup3(fd, copy, flags);
}

const struct callout_name callout_close_names[] = {CALLOUT(close), CALLOUT(dup2), CALLOUT(dup3),
                                                   CALLOUT_END};
