/*
 * context.c: contexts.
 *
 * The end of a context waits for the last messages of its sockets, so a thread of its own sees to
 * it, and says so by closing its end of a pipe.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "binding.h"

struct ending {
  void *zmq;
  int pipe[2];
};

struct context *context_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, CONTEXT_TYPE);
}

/***
 * zmq.Context([io_threads]): a new context, which sockets are made in.
 * Those of one context can talk to each other by "inproc://name". A context does not outlive a
 * fork: a child makes one of its own.
 * @param io_threads? integer  which carry the messages; 1 if nothing is said
 * @return moonlet.zmq.ZContext
 * Source: pyzmq's Context.
 */
int context_new(lua_State *L) {
  lua_Integer threads = luaL_optinteger(L, 1, ZMQ_IO_THREADS_DFLT);
  luaL_argcheck(L, threads >= 0 && threads <= 1024, 1, "from 0 to 1024 expected");
  struct context *self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = (struct context){.fd = -1, .forks = binding_forks};
  list_init(&self->sockets);
  luaL_setmetatable(L, CONTEXT_TYPE);
  self->zmq = zmq_ctx_new();
  if (!self->zmq)
    return luaL_error(L, "cannot make a context: %s", zmq_strerror(errno));
  zmq_ctx_set(self->zmq, ZMQ_IO_THREADS, (int)threads);
  return 1;
}

/* ---- the end ---- */

static void *await_end(void *argument) {
  struct ending *ending = argument;
  while (zmq_ctx_term(ending->zmq) != 0 && errno == EINTR)
    ;
  int fd = ending->pipe[1];
  free(ending);
  close(fd);
  return NULL;
}

static int start_thread(struct ending *ending) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int failure = pthread_create(&thread, &attributes, await_end, ending);
  pthread_attr_destroy(&attributes);
  return failure;
}

/* Closes all sockets and has a thread end the context; 0, or an errno. */
static int begin_to_end(lua_State *L, struct context *self) {
  struct ending *ending = malloc(sizeof *ending);
  if (!ending)
    return ENOMEM;
  ending->zmq = self->zmq;
  if (pipe2(ending->pipe, O_CLOEXEC) != 0) {
    free(ending);
    return errno;
  }
  int input = ending->pipe[0], output = ending->pipe[1];
  zmq_ctx_shutdown(self->zmq);
  list_each(it, &self->sockets) socket_close(L, container_of(it, struct socket, sibling));
  int failure = start_thread(ending);
  if (failure) {
    close(input);
    close(output);
    free(ending);
    return failure;
  }
  self->zmq = NULL;
  self->fd = input;
  return 0;
}

/* In milliseconds, for all sockets. */
static void set_linger(struct context *self, int linger) {
  list_each(it, &self->sockets) {
    struct socket *socket = container_of(it, struct socket, sibling);
    zmq_setsockopt(socket->zmq, ZMQ_LINGER, &linger, sizeof linger);
  }
}

/* context:_shutdown([linger]) -> a descriptor that can be read at the end, or nil if that has come
 */
static int l_shutdown(lua_State *L) {
  struct context *self = context_check(L, 1);
  if (context_is_open(self) && !lua_isnoneornil(L, 2))
    set_linger(self, binding_check_time(L, 2));
  int failure = context_is_open(self) ? begin_to_end(L, self) : 0;
  if (failure)
    return binding_fail(L, failure);
  if (self->fd < 0)
    luaL_pushfail(L);
  else
    lua_pushinteger(L, self->fd);
  return 1;
}

/* context:_ended(): it has. */
static int l_ended(lua_State *L) {
  struct context *self = context_check(L, 1);
  if (self->fd >= 0)
    close(self->fd);
  self->fd = -1;
  return 0;
}

static int l_gc(lua_State *L) {
  struct context *self = context_check(L, 1);
  if (context_is_open(self))
    begin_to_end(L, self);
  self->zmq = NULL;
  return l_ended(L);
}

/* ---- the rest ---- */

/***
 * ZContext:closed(): whether its end has begun.
 * @return boolean
 */
static int l_closed(lua_State *L) {
  lua_pushboolean(L, !context_is_open(context_check(L, 1)));
  return 1;
}

/***
 * ZContext:set(option, value): sets an option of the context.
 * @param option integer  zmq.MAX_SOCKETS ...
 * @param value integer
 * @return true|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_ctx_set.
 */
static int l_set(lua_State *L) {
  struct context *self = context_check(L, 1);
  if (!context_is_open(self))
    return binding_fail(L, ETERM);
  if (zmq_ctx_set(self->zmq, (int)luaL_checkinteger(L, 2), (int)luaL_checkinteger(L, 3)) != 0)
    return binding_fail(L, errno);
  lua_pushboolean(L, 1);
  return 1;
}

/***
 * ZContext:get(option): the value of an option of the context.
 * @param option integer  zmq.MAX_SOCKETS ...
 * @return integer|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_ctx_get.
 */
static int l_get(lua_State *L) {
  struct context *self = context_check(L, 1);
  if (!context_is_open(self))
    return binding_fail(L, ETERM);
  int value = zmq_ctx_get(self->zmq, (int)luaL_checkinteger(L, 2));
  if (value < 0)
    return binding_fail(L, errno);
  lua_pushinteger(L, value);
  return 1;
}

static int l_tostring(lua_State *L) {
  const struct context *self = context_check(L, 1);
  int count = 0;
  list_each(it, &self->sockets) count++;
  lua_pushfstring(L, "<zmq context %p: %s, %d sockets>", self,
                  self->zmq      ? "open"
                  : self->fd < 0 ? "closed"
                                 : "closing",
                  count);
  return 1;
}

/***
 * @class moonlet.zmq.ZContext
 * What sockets are made in. Without a call of `term` what was sent last may be lost when the
 * program ends.
 */
const luaL_Reg context_methods[] = {{"_shutdown", l_shutdown},
                                    {"_ended", l_ended},
                                    {"closed", l_closed},
                                    {"set", l_set},
                                    {"get", l_get},
                                    {"__gc", l_gc},
                                    {"__tostring", l_tostring},
                                    {NULL, NULL}};
