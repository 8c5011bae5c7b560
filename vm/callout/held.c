/* held.c: see held.h. */
#include "held.h"

#include <stdio.h>
#include <stdlib.h>

#define SLAB 32

_Thread_local struct held **held_buckets;

_Thread_local struct held *held_spare;

/* ---- memory ---- */

/* What a thread has is freed when it ends. */
struct memory {
  struct memory *before;
  struct held slab[SLAB];
};

struct table {
  struct held *buckets[HELD_BUCKETS];
  struct memory *memory;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_table(void *block) {
  struct table *table = block;
  held_buckets = NULL;
  held_spare = NULL;
  while (table->memory) {
    struct memory *memory = table->memory;
    table->memory = memory->before;
    free(memory);
  }
  free(table);
}

static void make_key(void) { pthread_key_create(&key, free_table); }

static struct table *find_table(void) {
  pthread_once(&once, make_key);
  struct table *table = pthread_getspecific(key);
  if (table)
    return table;
  table = calloc(1, sizeof *table);
  if (!table || pthread_setspecific(key, table) != 0) {
    free(table);
    return NULL;
  }
  held_buckets = table->buckets;
  return table;
}

static bool find_memory(void) {
  struct table *table = find_table();
  struct memory *memory = table ? malloc(sizeof *memory) : NULL;
  if (!memory)
    return false;
  memory->before = table->memory;
  table->memory = memory;
  for (int i = 0; i < SLAB; i++) {
    struct held *held = &memory->slab[i];
    *held = (struct held){.next = held_spare};
    list_init(&held->waiting);
    held_spare = held;
  }
  return true;
}

/* ---- records ---- */

struct held *held_add(const void *lock) {
  return likely(held_spare != NULL) || find_memory() ? held_take(held_bucket(lock), lock) : NULL;
}

void held_trim(struct held *held) {
  if (held->count || held->strays || held->waiters)
    return;
  struct held **place = held_bucket(held->lock);
  while (*place != held)
    place = &(*place)->next;
  held_drop(place);
}

struct greenlet *held_owner(const struct hub *hub, const struct held *held) {
  if (held_by(held, hub->main))
    return hub->main;
  list_each(it, &hub->greenlets) {
    struct greenlet *g = container_of(it, struct greenlet, alive);
    if (held_by(held, g))
      return g;
  }
  return NULL;
}

/* ---- waiting ---- */

/* Writes who holds the lock, for a person. */
static void describe(const struct hub *hub, const struct held *held, char *text, size_t size) {
  const struct greenlet *g = held->count ? held_owner(hub, held) : NULL;
  if (!held->count)
    snprintf(text, size, "another thread");
  else if (!g)
    snprintf(text, size, "Greenlet-%llu, which has ended", (unsigned long long)held->id);
  else if (g == hub->main)
    snprintf(text, size, "main");
  else if (g->name)
    snprintf(text, size, "%s", g->name);
  else
    snprintf(text, size, "Greenlet-%llu", (unsigned long long)g->id);
}

enum callout_end held_wait(struct hub *hub, struct held *held, const char *name, double due) {
  char owner[64], text[160];
  describe(hub, held, owner, sizeof owner);
  snprintf(text, sizeof text, "%s (%p is held by %s)", name, held->lock, owner);
  const struct wait_kind kind = {.name = text, .passes_on = true};
  held->waiters++;
  enum callout_end end = callout_wait_firmly(hub, &held->waiting, due, &kind);
  held->waiters--;
  held_trim(held);
  return end;
}

void held_complain(const struct hub *hub, const struct held *held, const char *name) {
  char owner[64];
  describe(hub, held, owner, sizeof owner);
  fprintf(stderr, "moonlet: deadlock: %s cannot wait here for %p, held by %s\n", name, held->lock,
          owner);
}
