/*
 * fork.c: a child of vfork would share the greenlets with its parent: it gets a copy, as from fork.
 * There only the greenlet that forked goes on (../fork.c).
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "callout.h"

CALLOUT_REAL(vfork);

const struct callout_name callout_fork_names[] = {
    {"vfork", (void *)fork, (void *)real_vfork, false, NULL}, CALLOUT_END};
