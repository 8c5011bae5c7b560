/* socket.c: sockets, but for their messages and options. */
#include <errno.h>
#include <string.h>

#include "binding.h"

enum { UV_CONTEXT = 1 }; /* kept as long as the socket */

/* ---- what can be done now ---- */

/* At the end of the context everything can be done: it fails at once. */
static int ready(struct edge *edge) {
  const struct socket *self = (struct socket *)edge;
  int events = 0;
  size_t size = sizeof events;
  if (!socket_is_open(self) || zmq_getsockopt(self->zmq, ZMQ_EVENTS, &events, &size) != 0)
    return EDGE_IN | EDGE_OUT;
  return (events & ZMQ_POLLIN ? EDGE_IN : 0) | (events & ZMQ_POLLOUT ? EDGE_OUT : 0);
}

/* RCVTIMEO and SNDTIMEO, which libzmq leaves to us. */
static double patience(struct edge *edge, int waiting) {
  const struct socket *self = (struct socket *)edge;
  int limit = -1;
  size_t size = sizeof limit;
  zmq_getsockopt(self->zmq, waiting == EDGE_IN ? ZMQ_RCVTIMEO : ZMQ_SNDTIMEO, &limit, &size);
  return limit < 0 ? NO_LIMIT : limit / 1e3;
}

const struct edge_kind socket_edge = {
    .metatable = SOCKET_TYPE, .ready = ready, .patience = patience};

/* ---- life ---- */

struct socket *socket_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, SOCKET_TYPE);
}

struct socket *socket_check_open(lua_State *L, int arg) {
  struct socket *self = socket_check(L, arg);
  if (socket_is_open(self))
    return self;
  luaL_pushfail(L);
  lua_pushliteral(L, "closed");
  return NULL;
}

static int find_descriptor(struct socket *self) {
  size_t size = sizeof self->edge.fd;
  return zmq_getsockopt(self->zmq, ZMQ_FD, &self->edge.fd, &size);
}

int socket_new(lua_State *L) {
  struct context *context = context_check(L, 1);
  int type = (int)luaL_checkinteger(L, 2);
  luaL_argcheck(L, type >= ZMQ_PAIR && type <= ZMQ_STREAM, 2, "not a type of socket");
  if (!context_is_open(context))
    return binding_fail(L, ETERM);
  struct socket *self = lua_newuserdatauv(L, sizeof *self, 1);
  memset(self, 0, sizeof *self);
  zmq_msg_init(&self->incoming);
  self->edge.kind = &socket_edge;
  self->type = type;
  self->forks = context->forks;
  luaL_setmetatable(L, SOCKET_TYPE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_CONTEXT);
  self->zmq = zmq_socket(context->zmq, type);
  if (!self->zmq)
    return binding_fail(L, errno);
  list_append(&context->sockets, &self->sibling);
  if (find_descriptor(self) != 0) {
    int code = errno;
    socket_close(L, self);
    return binding_fail(L, code);
  }
  return 1;
}

void socket_close(lua_State *L, struct socket *self) {
  if (!self->zmq)
    return;
  edge_close(L, &self->edge);
  list_remove(&self->sibling);
  zmq_msg_close(&self->incoming);
  if (self->forks == binding_forks)
    zmq_close(self->zmq);
  self->zmq = NULL;
}

/***
 * ZSocket:close([linger]): closes it; a second call does nothing.
 * Who waits for it gets nil and "closed". What was sent and has not gone yet is kept for as long
 * as the option LINGER says: for ever, if nothing was said.
 * @param linger? number  seconds, in place of that option
 * Source: zmq_close.
 */
static int l_close(lua_State *L) {
  struct socket *self = socket_check(L, 1);
  if (socket_is_open(self) && !lua_isnoneornil(L, 2)) {
    int linger = binding_check_time(L, 2);
    zmq_setsockopt(self->zmq, ZMQ_LINGER, &linger, sizeof linger);
  }
  socket_close(L, self);
  return 0;
}

/* The error that a `<close>` variable is closed with is no time to linger. */
static int l_end(lua_State *L) {
  socket_close(L, socket_check(L, 1));
  return 0;
}

/***
 * ZSocket:closed(): whether it is closed.
 * @return boolean
 */
static int l_closed(lua_State *L) {
  lua_pushboolean(L, !socket_is_open(socket_check(L, 1)));
  return 1;
}

static const char *const type_names[] = {"PAIR",   "PUB",  "SUB",  "REQ",  "REP",  "DEALER",
                                         "ROUTER", "PULL", "PUSH", "XPUB", "XSUB", "STREAM"};

static int l_tostring(lua_State *L) {
  const struct socket *self = socket_check(L, 1);
  lua_pushfstring(L, "<zmq.%s socket %p: %s>", type_names[self->type], self,
                  socket_is_open(self) ? "open" : "closed");
  return 1;
}

/* ---- endpoints ---- */

static int use_endpoint(lua_State *L, int (*function)(void *, const char *)) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  int failure = function(self->zmq, luaL_checkstring(L, 2)) == 0 ? 0 : errno;
  edge_changed(&self->edge);
  if (failure)
    return binding_fail(L, failure);
  lua_pushboolean(L, 1);
  return 1;
}

static void push_last_endpoint(lua_State *L, void *zmq) {
  char endpoint[1024];
  size_t size = sizeof endpoint;
  if (zmq_getsockopt(zmq, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0)
    lua_pushstring(L, endpoint);
  else
    luaL_pushfail(L);
}

/***
 * ZSocket:bind(endpoint): receives connections there.
 * @param endpoint string  "tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "ipc:///path",
 *   "inproc://name"
 * @return string|nil # the endpoint, with the port that was chosen for *
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_bind.
 */
static int l_bind(lua_State *L) {
  int results = use_endpoint(L, zmq_bind);
  if (results == 1)
    push_last_endpoint(L, socket_check(L, 1)->zmq);
  return results;
}

/***
 * ZSocket:connect(endpoint): connects to it, and again whenever the connection breaks.
 * @param endpoint string
 * @return true|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_connect.
 */
static int l_connect(lua_State *L) { return use_endpoint(L, zmq_connect); }

/***
 * ZSocket:unbind(endpoint): receives no more connections there.
 * @param endpoint string  as bind has returned it
 * @return true|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_unbind.
 */
static int l_unbind(lua_State *L) { return use_endpoint(L, zmq_unbind); }

/***
 * ZSocket:disconnect(endpoint): ends the connection.
 * @param endpoint string
 * @return true|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_disconnect.
 */
static int l_disconnect(lua_State *L) { return use_endpoint(L, zmq_disconnect); }

/***
 * ZSocket:context(): the context that it was made in.
 * @return moonlet.zmq.ZContext
 */
static int l_context(lua_State *L) {
  socket_check(L, 1);
  lua_getiuservalue(L, 1, UV_CONTEXT);
  return 1;
}

/* socket:_monitor(endpoint, events): has its events sent to the endpoint; nil stops that. */
static int l_monitor(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  if (zmq_socket_monitor(self->zmq, luaL_optstring(L, 2, NULL),
                         (int)luaL_optinteger(L, 3, ZMQ_EVENT_ALL)) != 0)
    return binding_fail(L, errno);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- being waited for with others ---- */

/***
 * ZSocket:getfd(): the descriptor that says that something may have changed.
 * With it and with `dirty`, moonlet.select takes sockets like these for reading.
 * @return integer # -1 if it is closed
 */
static int l_getfd(lua_State *L) {
  const struct socket *self = socket_check(L, 1);
  lua_pushinteger(L, socket_is_open(self) ? self->edge.fd : -1);
  return 1;
}

/***
 * ZSocket:events(): what can be done without waiting.
 * @return integer # the sum of POLLIN and POLLOUT, as far as they apply; 0 if it is closed
 * Source: ZMQ_EVENTS.
 */
static int l_events(lua_State *L) {
  struct socket *self = socket_check(L, 1);
  int ready_now = socket_is_open(self) ? edge_ready(&self->edge) : 0;
  lua_pushinteger(L, (ready_now & EDGE_IN ? ZMQ_POLLIN : 0) |
                         (ready_now & EDGE_OUT ? ZMQ_POLLOUT : 0));
  return 1;
}

/***
 * ZSocket:dirty(): whether it can receive without waiting.
 * @return boolean
 */
static int l_dirty(lua_State *L) {
  struct socket *self = socket_check(L, 1);
  lua_pushboolean(L, socket_is_open(self) && (edge_ready(&self->edge) & EDGE_IN));
  return 1;
}

/***
 * @class moonlet.zmq.ZSocket
 * A socket of ZeroMQ's, made by context:socket. Several greenlets may send and receive at a time;
 * each message goes to the one that has waited longest.
 */
const luaL_Reg socket_methods[] = {{"close", l_close},
                                   {"closed", l_closed},
                                   {"bind", l_bind},
                                   {"connect", l_connect},
                                   {"unbind", l_unbind},
                                   {"disconnect", l_disconnect},
                                   {"setsockopt", socket_setsockopt},
                                   {"getsockopt", socket_getsockopt},
                                   {"getfd", l_getfd},
                                   {"events", l_events},
                                   {"dirty", l_dirty},
                                   {"context", l_context},
                                   {"_monitor", l_monitor},
                                   {"__gc", l_end},
                                   {"__close", l_end},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};
