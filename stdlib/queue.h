/*
 * queue.h: what the files of moonlet.queue share.
 *
 * The items of a queue are in the slots of a Lua table, made in advance, so that a put or
 * a get allocates nothing.  The order of a queue says which slot comes next: a ring (first
 * in, first out, or last), or a search tree over the slots (priority.c).
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

/* The user values of a queue; the last two only of a PriorityQueue. */
enum { UV_ITEMS = CLASS_FIELDS + 1, UV_NODES, UV_LESS };

struct queue;

/* The queue is at index 1 of the stack. */
struct queue_order {
  int (*next)(const struct queue *q); /* the slot of the item to be got next; there is one */
  void (*remove)(struct queue *q);    /* that slot becomes free */
  /* Puts the item at `item` into a free slot, or returns false: the queue has changed. */
  bool (*add)(lua_State *L, struct queue *q, int item);
  bool tree; /* slots have nodes */
};

/* Of the tree of a PriorityQueue; node 0 stands for none. */
struct queue_node {
  int left, right; /* `right` also links free nodes */
  int level;       /* a leaf's is 1 */
};

struct queue {
  struct class_object object;
  const struct queue_order *order;
  lua_Integer count, maxsize;
  uint64_t version;                      /* counts the changes */
  int capacity;                          /* slots, 1 to a power of two; 0: no table yet */
  int first;                             /* ring: position of the oldest; tree: its root */
  int free;                              /* tree: list of slots used before */
  struct queue_node *nodes;              /* tree: in UV_NODES */
  struct link getters, putters, joiners; /* blocked; peeks are among the getters */
  lua_Integer unfinished;                /* items put whose task is not done */
  bool shut;
};

extern const struct class_kind queue_kind, queue_priority_kind, queue_joinable_kind;
extern const struct class_kind queue_channel_kind; /* no subclass of Queue */

extern const struct queue_order queue_fifo;

/* For subclasses: a valid empty state, and the initialiser of all. */
void queue_init(struct queue *q, const struct queue_order *order);
void queue_construct(lua_State *L, struct queue *q);

/* Doubles the slots.  Use: if (!room) return queue_grow(L, q), false; */
void queue_grow(lua_State *L, struct queue *q);

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
