/* work.c: see work.h. */
#include "work.h"

#include <errno.h>

enum callout_end callout_do(struct hub *hub, const char *name, struct task *task) {
  const struct wait_kind kind = {
      .name = name, .external = true, .enter = wakeup_enter, .leave = wakeup_leave};
  if (task_start(task, hub, async_threads(hub)) != 0) {
    task->free(task);
    return CALLOUT_REFUSED;
  }
  enum callout_end end = CALLOUT_AGAIN;
  while (!task_ended(task) && end == CALLOUT_AGAIN)
    end = callout_wait(hub, &task->wakeup.waiting, NO_LIMIT, &kind);
  if (end == CALLOUT_AGAIN)
    return end;
  int error = errno;
  task_cancel(task, async_threads(hub));
  task_abandon(task);
  errno = error;
  return end;
}
