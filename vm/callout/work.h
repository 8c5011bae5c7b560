/*
 * work.h: what can only be waited for by a thread.
 *
 * The work is in memory of its own, so that the greenlet may be killed meanwhile.
 */
#ifndef MOONLET_CALLOUT_WORK_H
#define MOONLET_CALLOUT_WORK_H

#include "../task.h"
#include "callout.h"

/*
 * Has a thread do the task, and waits for it: CALLOUT_AGAIN when it has been done; the caller
 * lets go of it with task_abandon.  In all other cases the task is gone.
 */
enum callout_end callout_do(struct hub *hub, const char *name, struct task *task);

#endif
