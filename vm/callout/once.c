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

/* Others wait for its function to end. */
static enum callout_end wait_for_end(struct hub *hub, struct held *held) {
  struct cxx_call call;
  int error = errno;
  if (!callout_hub())
    return CALLOUT_REFUSED;
  save_cxx(&call);
  enum callout_end end = held_wait(hub, held, "pthread_once", NO_LIMIT);
  restore_cxx(&call);
  errno = error;
  return end;
}

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

/* The system's own sign that it has been done. */
static bool is_done(const pthread_once_t *control) {
#ifdef __GLIBC__
  return __atomic_load_n(control, __ATOMIC_ACQUIRE) & 2;
#else
  return (void)control, false;
#endif
}

static int callout_pthread_once(pthread_once_t *control, void (*function)(void)) {
  struct hub *hub = hub_running;
  struct held *held;
  if (likely(is_done(control)))
    return 0;
  if (!hub)
    return pthread_once(control, function);
  while ((held = held_find(control)) && held->count && !held_by(held, hub->current)) {
    if (wait_for_end(hub, held) == CALLOUT_AGAIN)
      continue;
    held_complain(hub, held, "pthread_once");
    return EDEADLK;
  }
  return run_once(hub, control, function);
}

const struct callout_name callout_once_names[] = {CALLOUT(pthread_once), CALLOUT_END};
