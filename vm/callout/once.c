/*
 * once.c: pthread_once, of which the function may wait: other greenlets that come by then wait for
 * its end in the hub.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "held.h"

/* Also when an exception of C++ leaves the function: it will be called again. */
static void end_once(struct held **held) {
  if (!*held)
    return;
  (*held)->count--;
  wait_notify_all(&(*held)->waiting);
  held_trim(*held);
}

static int run_once(const struct hub *hub, pthread_once_t *control, void (*function)(void)) {
  struct held *held __attribute__((cleanup(end_once))) = held_find(control);
  if (held || (held = held_add(control)))
    held_get(held, hub->current);
  return pthread_once(control, function);
}

static int callout_pthread_once(pthread_once_t *control, void (*function)(void)) {
  struct hub *hub = hub_running;
  struct held *held;
  if (!hub)
    return pthread_once(control, function);
  while ((held = held_find(control)) && held->count && !held_by(held, hub->current)) {
    enum callout_end end = CALLOUT_REFUSED;
    int error = errno;
    if (callout_hub())
      end = held_wait(hub, held, "pthread_once", NO_LIMIT);
    errno = error;
    if (end == CALLOUT_AGAIN)
      continue;
    held_complain(hub, held, "pthread_once");
    return EDEADLK;
  }
  return run_once(hub, control, function);
}

const struct callout_name callout_once_names[] = {CALLOUT(pthread_once), CALLOUT_END};
