/* task.c: work that may be given up (see task.h). */
#include "task.h"

#include <errno.h>

#include "hub.h"

static void let_go(struct task *task) {
  if (atomic_fetch_sub(&task->holders, 1) == 1)
    task->free(task);
}

static void perform(struct job *job) {
  struct task *task = container_of(job, struct task, job);
  task->work(task);
  wakeup_send(&task->wakeup);
  let_go(task);
}

/* The pool closes before its turn has come. */
static void forget(struct job *job) { let_go(container_of(job, struct task, job)); }

int task_start(struct task *task, struct hub *hub, struct threads *threads) {
  if (!threads)
    return ENOMEM;
  int failure = wakeup_init(&task->wakeup, hub);
  if (failure)
    return failure;
  task->job.work = perform;
  task->job.forget = forget;
  task->job.loose = !task->needed;
  atomic_init(&task->holders, 2);
  failure = threads_do(threads, &task->job);
  if (failure)
    wakeup_drop(&task->wakeup);
  return failure;
}

bool task_cancel(struct task *task, struct threads *threads) {
  bool cancelled = threads_cancel(threads, &task->job);
  if (cancelled)
    let_go(task);
  return cancelled;
}

void task_abandon(struct task *task) {
  wakeup_drop(&task->wakeup);
  let_go(task);
}
