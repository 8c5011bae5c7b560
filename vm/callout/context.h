/*
 * context.h: what belongs to the thread, but to each greenlet while it is inside a C library.
 *
 * (C++ exceptions in flight and the modes of floating point change with the C stack: cstack.c.
 * Variables that a library declares thread_local stay the thread's: nobody can tell where they
 * are.)
 */
#ifndef MOONLET_CALLOUT_CONTEXT_H
#define MOONLET_CALLOUT_CONTEXT_H

#include <locale.h>
#include <signal.h>
#include <stdbool.h>

struct hub;

struct callout_state {
  int error, host_error; /* errno, h_errno */
  bool localized;        /* it has a locale of its own: */
  locale_t locale;
  bool masked; /* and a signal mask: */
  sigset_t mask;
};

/* Saves the current greenlet's before others run, and puts it back afterwards. */
void callout_leave(const struct hub *hub, struct callout_state *saved);
void callout_return(const struct hub *hub, const struct callout_state *saved);

#endif
