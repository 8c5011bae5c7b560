/* sync.c: fsync and fdatasync, in a thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "work.h"

struct sync {
  struct task task;
  int (*real)(int fd);
  int fd, result, error;
};

static void perform(struct task *task) {
  struct sync *sync = container_of(task, struct sync, task);
  sync->result = sync->real(sync->fd);
  sync->error = errno;
}

static void release(struct task *task) { free(container_of(task, struct sync, task)); }

static int sync_with(int (*real)(int fd), const char *name, int fd) {
  struct hub *hub = callout_hub();
  struct sync *sync = hub ? calloc(1, sizeof *sync) : NULL;
  if (!sync)
    return real(fd);
  *sync = (struct sync){.task = {.work = perform, .free = release}, .real = real, .fd = fd};
  enum callout_end end = callout_do(hub, name, &sync->task);
  if (end != CALLOUT_AGAIN)
    return end == CALLOUT_REFUSED ? real(fd) : -1;
  int result = sync->result, error = sync->error;
  task_abandon(&sync->task);
  errno = error;
  return result;
}

static int callout_fsync(int fd) { return sync_with(fsync, "fsync", fd); }

static int callout_fdatasync(int fd) { return sync_with(fdatasync, "fdatasync", fd); }

const struct callout_name callout_sync_names[] = {CALLOUT(fsync), CALLOUT(fdatasync), CALLOUT_END};
