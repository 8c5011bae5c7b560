/*
 * task.h: work in another thread that its greenlet may give up waiting for.
 *
 * moonlet_offload's work lives in the frame of its caller, who must therefore see it end.
 * A task has memory of its own and is held twice, by the greenlet's side and by the
 * thread's; whoever lets go last frees it.  So a kill or a Timeout gets through at once,
 * and the late result is dropped; and a program need not wait at its end for a task at work
 * (unless that is `needed`), which may then outlive the hub and the Lua state.
 *
 *     struct lookup { struct task task; char *name; int failure; ... };
 *     static const struct wait_kind kind = {.name = "a lookup", .step = lookup_step,
 *         .external = true, .enter = wakeup_enter, .leave = wakeup_leave};
 *
 *     lookup->task.work = perform;            in the thread: no Lua, no hub
 *     lookup->task.free = free_lookup;        in either thread
 *     failure = task_start(&lookup->task, hub, async_threads(hub));
 *     ...make a userdata whose __gc and __close call task_abandon...
 *     return wait_in(L, &lookup->task.wakeup.waiting, limit, &kind);
 *
 * The step returns WAIT_AGAIN until task_ended().
 */
#ifndef MOONLET_TASK_H
#define MOONLET_TASK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "async.h"
#include "threads.h"

struct task {
  struct job job;
  struct wakeup wakeup;            /* sent: the work has ended */
  bool needed;                     /* the program does not end before its work has */
  atomic_int holders;              /* greenlet's side, thread's side */
  void (*work)(struct task *self); /* in the thread */
  void (*free)(struct task *self); /* by whoever lets go last */
};

/* Has one of the threads do `work`.  Returns 0, or an errno: then nothing is held and the
   caller frees the task.  (NULL for the threads, which were not to be had: ENOMEM.) */
int task_start(struct task *task, struct hub *hub, struct threads *threads);

/* Whether the work has ended: its results may be read. */
static inline bool task_ended(const struct task *task) { return atomic_load(&task->wakeup.sent); }

/* Takes back work that has not begun, which will not be done; returns whether it could. */
bool task_cancel(struct task *task, struct threads *threads);

/* The greenlet's side lets go, once, whether the work has ended or not. */
void task_abandon(struct task *task);

#endif
