/*
 * once.c: pthread_once, of which the function may wait: other greenlets that come by then wait for
 * its end in the hub.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>

#include "held.h"

/* ---- std::call_once ---- */

/* It leaves to the thread's variables, for a function of its own, what is to be called. */
static const char *const cxx_names[] = {"_ZSt15__once_callable", "_ZSt11__once_call"};

struct cxx_call {
  void **place[2], *saved[2];
};

static void save_cxx(struct cxx_call *call) {
  void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  for (int i = 0; i < 2; i++) {
    call->place[i] = library ? dlsym(library, cxx_names[i]) : NULL;
    call->saved[i] = call->place[i] ? *call->place[i] : NULL;
  }
  if (library)
    dlclose(library);
}

static void restore_cxx(const struct cxx_call *call) {
  for (int i = 0; i < 2; i++)
    if (call->place[i])
      *call->place[i] = call->saved[i];
}

/* ---- pthread_once ---- */

#define LOOK_AGAIN 0.01 /* seconds, for nobody tells of an exception */

/* The system's own signs: it has been done; nobody is at it (any more). */
#ifdef __GLIBC__
static int progress(const pthread_once_t *control) {
  return __atomic_load_n(control, __ATOMIC_ACQUIRE) & 3;
}

static bool is_done(const pthread_once_t *control) { return progress(control) & 2; }

static bool is_free(const pthread_once_t *control) { return progress(control) == 0; }
#else
static bool is_done(const pthread_once_t *control) { return (void)control, false; }

static bool is_free(const pthread_once_t *control) { return (void)control, false; }
#endif

/* Others wait for its function to end. */
static enum callout_end wait_for_end(struct hub *hub, struct held *held) {
  struct cxx_call call;
  int error = errno;
  if (!callout_hub())
    return CALLOUT_REFUSED;
  save_cxx(&call);
  enum callout_end end = held_wait(hub, held, "pthread_once", hub_due(hub, LOOK_AGAIN));
  restore_cxx(&call);
  errno = error;
  return end == CALLOUT_LATE ? CALLOUT_AGAIN : end;
}

/* An exception of C++ may leave the function, and so this one: its record stays behind, but the
   system says that it is free again. */
static int run_once(const struct hub *hub, pthread_once_t *control, void (*function)(void)) {
  struct held *held = held_find(control);
  if (held && is_free(control))
    held->count = 0;
  if (held || (held = held_add(control)))
    held_get(held, hub->current);
  int result = pthread_once(control, function);
  if (!held)
    return result;
  held->count--;
  wait_notify_all(&held->waiting);
  held_trim(held);
  return result;
}

static int callout_pthread_once(pthread_once_t *control, void (*function)(void)) {
  struct hub *hub = hub_running;
  struct held *held;
  if (likely(is_done(control)))
    return 0;
  if (!hub)
    return pthread_once(control, function);
  while (!is_free(control) && (held = held_find(control)) && held->count &&
         !held_by(held, hub->current)) {
    if (wait_for_end(hub, held) == CALLOUT_AGAIN)
      continue;
    held_complain(hub, held, "pthread_once");
    return EDEADLK;
  }
  return run_once(hub, control, function);
}

const struct callout_name callout_once_names[] = {CALLOUT(pthread_once), CALLOUT_END};
