/*
 * edge.h: objects of a library that tells of changes by one descriptor, at the edge: libzmq.
 *
 * The library's module never waits: it tries, and says when it would have to wait.  It knows
 * neither the hub nor greenlets, so that it links with its own library alone.  Its operations
 * become methods by way of moonlet.edge.core, which does the waiting.
 *
 * The descriptor can be read once something has changed, and then no longer as soon as any
 * operation has taken notice, whomever that served.  So whoever did something to the object
 * while others wait looks for them, too: what is ready now, is told to those who wait for it.
 */
#ifndef MOONLET_EDGE_H
#define MOONLET_EDGE_H

#include <lua.h>
#include <stdbool.h>

#include "wait.h"

#define EDGE_AGAIN (-1)

/* What an operation waits for, and bits of what may be done now. */
enum { EDGE_IN = 1, EDGE_OUT = 2 };

struct edge;

struct edge_kind {
  const char *metatable;                              /* of the userdata, by luaL_newmetatable */
  int (*ready)(struct edge *edge);                    /* takes notice of all that has changed */
  double (*patience)(struct edge *edge, int waiting); /* limits a wait that the call does not */
};

/* What the userdata begins with: `kind` and `fd` are set by the module, and `vague`; all else is 0.
 */
struct edge {
  const struct edge_kind *kind;
  int fd;
  bool vague;                     /* EDGE_OUT does not mean that every message could be sent */
  int seen;                       /* what was ready when somebody looked last */
  int waiting;                    /* how many, in the rings below */
  unsigned unbroken;              /* operations in a row that did not have to wait */
  struct link getters;            /* ring: who waits to receive; one is told for each message */
  struct link putters;            /* ring: who waits to send; all are told */
  struct link *descriptor;        /* its ring; NULL: not attached yet */
  struct waiter watch;            /* in it while somebody waits */
  int (*look)(struct edge *edge); /* tells those who wait; what is ready now */
  void (*drop)(lua_State *L, struct edge *edge); /* for edge_close */
};

/* The operation is a light userdata with this. */
struct edge_operation {
  const char *name; /* "Socket:receive" */
  const struct edge_kind *kind;
  int waits;   /* for EDGE_IN or EDGE_OUT */
  int timeout; /* the argument */
  /* Without waiting: the number of results pushed, or EDGE_AGAIN with the stack as it was.  The
     object is at 1. */
  int (*attempt)(lua_State *L);
};

static inline bool edge_is_watched(const struct edge *edge) {
  return edge->descriptor && !list_empty(edge->descriptor);
}

/* After whatever else may have taken notice of changes. */
static inline void edge_changed(struct edge *edge) {
  if (edge_is_watched(edge))
    edge->look(edge);
}

/* What is ready now, for somebody who will wait for the descriptor if it is not enough. */
static inline int edge_ready(struct edge *edge) {
  return edge_is_watched(edge) ? edge->look(edge) : (edge->seen = edge->kind->ready(edge));
}

/* Before the descriptor is closed: wakes all who wait, whose attempts then see why. */
static inline void edge_close(lua_State *L, struct edge *edge) {
  if (edge->descriptor)
    edge->drop(L, edge);
}

#endif
