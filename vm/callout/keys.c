/*
 * keys.c: pthread keys of libcrypto (see keys.h).
 *
 * OpenSSL's queue of errors is the thread's.  While a greenlet waits inside of SSL_read others use
 * libcrypto too, and what went wrong for them would be found in the queue, and taken for a failure
 * of the connection.  So in libcrypto a greenlet has values of its own; to main and to the hub
 * belong those of the thread.  Which keys there are, and whether they were made before callouts
 * were turned on, does not matter: all that libcrypto asks for is the greenlet's.
 *
 * Destructors are not called by key: libcrypto has a function for threads that end.
 */
#define _GNU_SOURCE
#include "keys.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "callout.h"

#define LIBRARY "libcrypto."
#define STOP "OPENSSL_thread_stop"

struct value {
  pthread_key_t key;
  void *value;
};

struct callout_values {
  unsigned count, room;
  struct value *list;
  void (*stop)(void);
};

/* ---- one greenlet's ---- */

static struct greenlet *owner(void) {
  const struct hub *hub = hub_running;
  return hub && hub->current != hub->main ? hub->current : NULL;
}

static struct value *find(const struct callout_values *values, pthread_key_t key) {
  for (unsigned i = 0; values && i < values->count; i++)
    if (values->list[i].key == key)
      return &values->list[i];
  return NULL;
}

/* libcrypto's function, by an address in it. */
static void (*find_stop(const void *inside))(void) {
  static _Thread_local const void *base;
  static _Thread_local void (*stop)(void);
  Dl_info about;
  if (!dladdr(inside, &about))
    return NULL;
  if (about.dli_fbase != base) {
    void *library = dlopen(about.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    base = about.dli_fbase;
    *(void **)&stop = library ? dlsym(library, STOP) : NULL;
    if (library)
      dlclose(library);
  }
  return stop;
}

static bool begin(struct greenlet *g, const void *caller) {
  g->values = calloc(1, sizeof *g->values);
  if (!g->values)
    return false;
  g->values->stop = find_stop(caller);
  g->threadlike = true;
  return true;
}

static struct value *add(struct callout_values *values, pthread_key_t key) {
  if (values->count == values->room) {
    unsigned room = values->room ? values->room * 2 : 8;
    struct value *list = realloc(values->list, room * sizeof *list);
    if (!list)
      return NULL;
    values->list = list;
    values->room = room;
  }
  struct value *value = &values->list[values->count++];
  *value = (struct value){.key = key};
  return value;
}

void callout_end_values(struct greenlet *g) {
  struct callout_values *values = g->values;
  struct hub *hub = g->hub;
  struct greenlet *current = hub->current;
  hub->current = g;
  callout_barred++;
  if (values->stop)
    values->stop();
  callout_barred--;
  hub->current = current;
  g->values = NULL;
  g->threadlike = false;
  free(values->list);
  free(values);
}

/* ---- wrappers ---- */

static void *callout_pthread_getspecific(pthread_key_t key) {
  const struct greenlet *g = owner();
  if (!g)
    return pthread_getspecific(key);
  const struct value *value = find(g->values, key);
  return value ? value->value : NULL;
}

static int callout_pthread_setspecific(pthread_key_t key, const void *data) {
  struct greenlet *g = owner();
  if (!g)
    return pthread_setspecific(key, data);
  struct value *value = find(g->values, key);
  if (!value && !data)
    return 0;
  if (!g->values && !begin(g, __builtin_return_address(0)))
    return ENOMEM;
  if (!value && !(value = add(g->values, key)))
    return ENOMEM;
  value->value = (void *)data;
  return 0;
}

const struct callout_name callout_keys_names[] = {
    {"pthread_getspecific", (void *)callout_pthread_getspecific, (void *)pthread_getspecific, false,
     LIBRARY},
    {"pthread_setspecific", (void *)callout_pthread_setspecific, (void *)pthread_setspecific, false,
     LIBRARY},
    CALLOUT_END};
