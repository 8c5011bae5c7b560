/*
 * list.h: intrusive doubly linked rings.
 *
 * A ring is a `struct link` that stands for the list itself; members embed one
 * `struct link` for each ring they may be in.  Appending and removing cost a few
 * stores, and a member leaves its ring without knowing which one it is: this is
 * what makes undoing a wait cheap and certain.
 */
#ifndef MOONLET_LIST_H
#define MOONLET_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
  struct link *prev, *next; /* next is NULL while the member is in no ring */
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Walks a ring in order; `next_` is fetched first, so the body may remove `it`. */
#define list_each(it, ring)                                                                        \
  for (struct link *it = (ring)->next, *next_ = it->next; it != (ring);                            \
       it = next_, next_ = it->next)

static inline void list_init(struct link *ring) { ring->prev = ring->next = ring; }

static inline bool list_empty(const struct link *ring) { return ring->next == ring; }

static inline bool list_linked(const struct link *member) { return member->next != NULL; }

static inline void list_insert_before(struct link *place, struct link *member) {
  member->prev = place->prev;
  member->next = place;
  place->prev->next = member;
  place->prev = member;
}

static inline void list_append(struct link *ring, struct link *member) {
  list_insert_before(ring, member);
}

static inline void list_prepend(struct link *ring, struct link *member) {
  list_insert_before(ring->next, member);
}

static inline void list_remove(struct link *member) {
  member->prev->next = member->next;
  member->next->prev = member->prev;
  member->next = NULL;
}

#endif
