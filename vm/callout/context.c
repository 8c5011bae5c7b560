/*
 * context.c: what is kept for a greenlet while others run (see context.h).
 *
 * Locale and signal mask are changed by wrappers, so that it costs nothing to know that nobody
 * has changed them.  What main changes is changed for the whole thread.
 */
#define _GNU_SOURCE
#include "context.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "callout.h"

/* What the thread has without the change, and whose change it is: NULL, there is none. */
static _Thread_local struct {
  const struct greenlet *owner;
  locale_t base;
} locale;

static _Thread_local struct {
  const struct greenlet *owner;
  sigset_t base;
} mask;

/* ---- around a wait ---- */

static void leave_locale(const struct hub *hub, struct callout_state *saved) {
  saved->localized = locale.owner && locale.owner == hub->current;
  if (likely(!saved->localized))
    return;
  saved->locale = uselocale(locale.base);
  locale.owner = NULL;
}

static void leave_mask(const struct hub *hub, struct callout_state *saved) {
  saved->masked = mask.owner && mask.owner == hub->current;
  if (likely(!saved->masked))
    return;
  pthread_sigmask(SIG_SETMASK, &mask.base, &saved->mask);
  mask.owner = NULL;
}

void callout_leave(const struct hub *hub, struct callout_state *saved) {
  saved->error = errno;
  saved->host_error = h_errno;
  leave_locale(hub, saved);
  leave_mask(hub, saved);
}

void callout_return(const struct hub *hub, const struct callout_state *saved) {
  if (unlikely(saved->localized)) {
    locale.base = uselocale(saved->locale);
    locale.owner = hub->current;
  }
  if (unlikely(saved->masked)) {
    pthread_sigmask(SIG_SETMASK, &saved->mask, &mask.base);
    mask.owner = hub->current;
  }
  h_errno = saved->host_error;
  errno = saved->error;
}

/* ---- changes ---- */

/* The greenlet whose changes are its own; NULL: they are the thread's. */
static const struct greenlet *changer(void) {
  const struct hub *hub = hub_running;
  return hub && hub->current != hub->main && !callout_is_child() ? hub->current : NULL;
}

static locale_t callout_uselocale(locale_t wanted) {
  locale_t before = uselocale(wanted);
  const struct greenlet *g = wanted && before ? changer() : NULL;
  if (!g)
    return before;
  if (!locale.owner)
    locale.base = before;
  locale.owner = wanted == locale.base ? NULL : g;
  return before;
}

static int callout_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
  const struct greenlet *g = set ? changer() : NULL;
  sigset_t before, now;
  if (!g)
    return pthread_sigmask(how, set, old);
  int failure = pthread_sigmask(how, set, &before);
  if (failure)
    return failure;
  if (!mask.owner)
    mask.base = before;
  pthread_sigmask(SIG_BLOCK, NULL, &now);
  mask.owner = memcmp(&now, &mask.base, sizeof now) == 0 ? NULL : g;
  if (old)
    *old = before;
  return 0;
}

static int callout_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
  int failure = callout_pthread_sigmask(how, set, old);
  if (!failure)
    return 0;
  errno = failure;
  return -1;
}

const struct callout_name callout_context_names[] = {CALLOUT(uselocale), CALLOUT(pthread_sigmask),
                                                     CALLOUT(sigprocmask), CALLOUT_END};
