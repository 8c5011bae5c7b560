/*
 * context.h: what belongs to the thread, but to each greenlet while it is inside a C library.
 */
#ifndef MOONLET_CALLOUT_CONTEXT_H
#define MOONLET_CALLOUT_CONTEXT_H

struct callout_state {
  int error; /* errno */
};

/* Saves the greenlet's before others run, and puts it back afterwards. */
void callout_leave(struct callout_state *saved);
void callout_return(const struct callout_state *saved);

#endif
