/* context.c: what is kept for a greenlet while others run (see context.h). */
#include "context.h"

#include <errno.h>

void callout_leave(struct callout_state *saved) { saved->error = errno; }

void callout_return(const struct callout_state *saved) { errno = saved->error; }
