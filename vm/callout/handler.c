/*
 * handler.c: no greenlet waits inside of a handler of a signal, which has interrupted who knows
 * what.  Handlers that patched objects install are called by one of ours, which bars others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "callout.h"

#define DEEPEST 8 /* handlers that interrupt one another, of which it is noticed that they jump */

typedef void handler(int signum, siginfo_t *info, void *context);

/* What the objects have installed. */
static _Atomic(handler *) handlers[NSIG];
static atomic_bool wants_info[NSIG];

/* ---- handlers at work ---- */

/* A handler need not return: it may jump (siglongjmp) to a function that it has interrupted. */
struct frame {
  uintptr_t place; /* on the C stack, or on the one for signals */
  const struct cstack *stack;
  uint64_t switches; /* the hub's then */
  int barred;        /* how many bars there were before */
};

static _Thread_local struct frame frames[DEEPEST] __attribute__((tls_model("initial-exec")));
static _Thread_local int depth __attribute__((tls_model("initial-exec")));

static bool is_at_work(const struct hub *hub, const struct frame *frame) {
  stack_t other;
  if (frame->stack != hub->stack || frame->switches != hub->switches)
    return false;
  if (sigaltstack(NULL, &other) != 0)
    return true;
  uintptr_t start = (uintptr_t)other.ss_sp;
  if (frame->place >= start && frame->place - start < other.ss_size)
    return other.ss_flags & SS_ONSTACK;
  return (uintptr_t)__builtin_frame_address(0) < frame->place;
}

bool callout_is_barred(const struct hub *hub) {
  while (depth > 0 && !is_at_work(hub, &frames[depth - 1]))
    callout_barred = frames[--depth].barred;
  return callout_barred > 0;
}

static bool enter(const struct hub *hub) {
  bool noted = depth < DEEPEST;
  if (noted)
    frames[depth++] = (struct frame){.place = (uintptr_t)__builtin_frame_address(0),
                                     .stack = hub->stack,
                                     .switches = hub->switches,
                                     .barred = callout_barred};
  callout_barred++;
  return noted;
}

static void call_handler(int signum, siginfo_t *info, void *context) {
  const struct hub *hub = hub_running;
  handler *call = handlers[signum];
  if (!hub || !hub->current) {
    call(signum, info, context);
    return;
  }
  bool noted = enter(hub);
  call(signum, info, context);
  callout_barred--;
  depth -= noted;
}

/* ---- wrappers ---- */

static bool is_function(const struct sigaction *action) {
  return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* What the object takes to be installed. */
static void show(struct sigaction *action, handler *installed, bool info) {
  if (action->sa_sigaction != call_handler)
    return;
  action->sa_sigaction = installed;
  if (!info)
    action->sa_flags &= ~SA_SIGINFO;
}

static int callout_sigaction(int signum, const struct sigaction *action, struct sigaction *old) {
  if (signum <= 0 || signum >= NSIG)
    return sigaction(signum, action, old);
  handler *before = handlers[signum];
  bool info = wants_info[signum];
  struct sigaction ours;
  if (action && is_function(action)) {
    ours = *action;
    handlers[signum] = action->sa_sigaction;
    wants_info[signum] = action->sa_flags & SA_SIGINFO;
    ours.sa_sigaction = call_handler;
    ours.sa_flags |= SA_SIGINFO;
    action = &ours;
  }
  int result = sigaction(signum, action, old);
  if (result == 0 && old)
    show(old, before, info);
  if (result != 0) {
    handlers[signum] = before;
    wants_info[signum] = info;
  }
  return result;
}

static sighandler_t callout_signal(int signum, sighandler_t wanted) {
  struct sigaction action = {.sa_handler = wanted, .sa_flags = SA_RESTART}, old;
  return callout_sigaction(signum, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

CALLOUT_REAL(bsd_signal);

const struct callout_name callout_handler_names[] = {
    CALLOUT(sigaction), CALLOUT(signal), CALLOUT_HIDDEN(bsd_signal, signal), CALLOUT_END};
