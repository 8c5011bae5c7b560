/* child.h: the end of child processes. */
#ifndef MOONLET_CALLOUT_CHILD_H
#define MOONLET_CALLOUT_CHILD_H

#include <sys/types.h>

#include "callout.h"

/* As waitpid(pid, status, 0) does.  If it fails with ECANCELED the child is reaped later. */
pid_t callout_reap(const char *name, pid_t pid, int *status);

/* Starts /bin/sh -c command; its descriptor `to` is a copy of `from` (-1: as ours).  0, or an
   errno. */
int callout_start_shell(pid_t *pid, const char *command, int from, int to);

#endif
