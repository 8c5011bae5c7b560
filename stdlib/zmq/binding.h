/*
 * binding.h: contexts and sockets of libzmq as Lua has them.
 *
 * Nothing here waits: sending and receiving are operations of an edge (edge.h), and the end of
 * a context is awaited by a thread that reports to a descriptor.
 */
#ifndef MOONLET_ZMQ_BINDING_H
#define MOONLET_ZMQ_BINDING_H

#include <lauxlib.h>
#include <lua.h>
#include <zmq.h>

#include "../edge.h"

#define CONTEXT_TYPE "moonlet.zmq.ZContext"
#define SOCKET_TYPE "moonlet.zmq.ZSocket"

struct context {
  void *zmq;           /* NULL: ended, or about to */
  struct link sockets; /* ring: the open ones */
  int fd;              /* while it ends: can be read when it has; else -1 */
  unsigned forks;      /* binding_forks when it was made */
};

struct socket {
  struct edge edge;
  void *zmq;           /* NULL: closed */
  unsigned forks;      /* the context's */
  struct link sibling; /* among the context's */
  int type;
  zmq_msg_t incoming; /* here, so that an error in Lua does not leak it */
};

/*
 * How many forks lie behind this process.  What was made before one belongs to the parent, whose
 * threads serve it: for the child it is closed.  (libzmq's functions would never return.)
 */
extern unsigned binding_forks;

static inline bool context_is_open(const struct context *self) {
  return self->zmq && self->forks == binding_forks;
}

static inline bool socket_is_open(const struct socket *self) {
  return self->zmq && self->forks == binding_forks;
}

/* A time in seconds from argument `arg`, in milliseconds; -1: for ever. */
int binding_check_time(lua_State *L, int arg);

/* ---- errors ---- */

/* nil, the message of the errno, the errno */
int binding_fail(lua_State *L, int code);

/* ---- sockets (socket.c) ---- */

extern const struct edge_kind socket_edge;

struct socket *socket_check(lua_State *L, int arg);

/* Open, or NULL after pushing nil, "closed". */
struct socket *socket_check_open(lua_State *L, int arg);

/* core.socket(context, type) */
int socket_new(lua_State *L);

/* Nobody waits for it any longer, its messages linger. */
void socket_close(lua_State *L, struct socket *self);

extern const luaL_Reg socket_methods[];

/* ---- its options, and the context's (options.c) ---- */

int socket_setsockopt(lua_State *L);
int socket_getsockopt(lua_State *L);

/* ---- messages (message.c) ---- */

/* Operations by the names of the methods. */
struct named_operation {
  const char *name;
  struct edge_operation operation;
};

extern const struct named_operation message_operations[]; /* the last has no name */

/* ---- contexts (context.c) ---- */

struct context *context_check(lua_State *L, int arg);

/* core.context([io_threads]) */
int context_new(lua_State *L);

extern const luaL_Reg context_methods[];

/* ---- constants (constants.c) ---- */

/* Pushes a table: "REQ" -> 3. */
void constants_push(lua_State *L);

#endif
