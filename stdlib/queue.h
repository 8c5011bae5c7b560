/*
 * queue.h: what the files of moonlet.queue share.
 *
 * The items of a queue are in slots, made in advance, so that a put or a get allocates
 * nothing (slots.h).  The order of a queue says which slot comes next: a ring (first in,
 * first out, or last), or a search tree over the slots (priority.c).
 *
 * Other Lua code may use the queue in the middle of an operation: a comparison, or a
 * finalizer wherever memory is allocated.  So operations first collect what they need and
 * then change the queue in one go; `version` tells whether they must look again.
 */
#ifndef MOONLET_QUEUE_H
#define MOONLET_QUEUE_H

#include "class.h"
#include "wait.h"

#define QUEUE_UNBOUNDED LUA_MAXINTEGER

/* The user values of a queue; the last two only of a PriorityQueue.  UV_ITEMS is memory, with
   cells and nodes, or a table; then the nodes are in UV_NODES. */
enum { UV_ITEMS = CLASS_FIELDS + 1, UV_NODES, UV_LESS };

struct queue;

/* An item on its way into a queue: what goes into its cell, and where on the stack it is. */
struct item {
  uint64_t cell;
  int index;
};

/* The queue is at index 1 of the stack. */
struct queue_order {
  int (*next)(const struct queue *q); /* the slot of the item to be got next; there is one */
  int (*remove)(struct queue *q);     /* the same slot, which becomes free */
  /* NULL: a ring, at whose end an item goes.  A tree: puts an item into a free slot, there is
     one; or returns false: the queue has changed. */
  bool (*add)(lua_State *L, struct queue *q, struct item item);
};

/* Of the tree of a PriorityQueue; node 0 stands for none. */
struct queue_node {
  int left, right; /* `right` also links free nodes */
  int level;       /* a leaf's is 1 */
};

struct queue {
  struct class_object object;
  const struct queue_order *order;
  lua_Integer maxsize;
  uint64_t version; /* counts the changes */
  uint64_t *cells;  /* of the slots, which count from 1; a tree's nodes come after them */
  int count;
  int capacity;                          /* slots, 0 or a power of two */
  int first;                             /* ring: position of the oldest; tree: its root */
  int free;                              /* tree: list of slots used before */
  struct link getters, putters, joiners; /* blocked; peeks are among the getters */
  lua_Integer unfinished;                /* items put whose task is not done */
  bool table;                            /* the items are in one, and there are no cells */
  bool shut;
};

static inline bool queue_is_tree(const struct queue *q) { return q->order->add != NULL; }

static inline struct queue_node *queue_nodes(const struct queue *q) {
  return (struct queue_node *)(q->cells + (q->table ? 0 : q->capacity));
}

extern const struct class_kind queue_kind, queue_priority_kind, queue_joinable_kind;
extern const struct class_kind queue_channel_kind; /* no subclass of Queue */

extern const struct queue_order queue_fifo;

/* For subclasses: a valid empty state, and the initialiser of all. */
void queue_init(struct queue *q, const struct queue_order *order);
void queue_construct(lua_State *L, struct queue *q);

/* What a put or a get returns when it fails, and what ends an iteration. */
enum queue_marker { QUEUE_EMPTY, QUEUE_FULL, QUEUE_SHUT_DOWN, QUEUE_STOP_ITERATION };

/* Pushes nil and a marker; returns 2. */
int queue_fail(lua_State *L, enum queue_marker marker);

/* In an iterator: replaces StopIteration on top of the stack by nil. */
void queue_hide_stop(lua_State *L);

/* Adds ", 2 getters" to the text on top of the stack if two wait in the ring. */
void queue_describe_ring(lua_State *L, struct link *ring, const char *what);

/* An item must not be nil: raises a bad argument. */
static inline void queue_check_item(lua_State *L, int arg) {
  luaL_argcheck(L, !lua_isnoneornil(L, arg), arg, "nil cannot be put");
}

#endif
