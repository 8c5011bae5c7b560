/* message.c: sending and receiving, as operations that never wait. */
#include <errno.h>
#include <string.h>

#include "binding.h"

/* ---- receiving ---- */

/* The part of a message that comes next; whether there is one. */
static bool take(struct socket *self) {
  int size;
  while ((size = zmq_msg_recv(&self->incoming, self->zmq, ZMQ_DONTWAIT)) < 0 && errno == EINTR)
    ;
  return size >= 0;
}

static void push_part(lua_State *L, struct socket *self) {
  lua_pushlstring(L, zmq_msg_data(&self->incoming), zmq_msg_size(&self->incoming));
}

/* Once the first part is there, all others are. */
static int push_others(lua_State *L, struct socket *self) {
  int count = 0;
  while (zmq_msg_more(&self->incoming) && take(self)) {
    luaL_checkstack(L, 4, "too many parts");
    push_part(L, self);
    count++;
  }
  return count;
}

static int refuse_to_receive(lua_State *L) {
  return errno == EAGAIN ? EDGE_AGAIN : binding_fail(L, errno);
}

/***
 * ZSocket:receive([timeout]): waits for a message and takes it.
 * @param timeout? number|Timeout  seconds; without one the option RCVTIMEO counts
 * @return string|nil # the first part, or all there is
 * @return string ... # its other parts; or the reason: "timeout", "closed" by another greenlet,
 *   "Context was terminated" ...
 * @return integer # the errno
 * Source: pyzmq's Socket.recv_multipart.
 */
static int receive(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  if (!take(self))
    return refuse_to_receive(L);
  push_part(L, self);
  return zmq_msg_more(&self->incoming) ? 1 + push_others(L, self) : 1;
}

/* The parts of the message just begun, as a string or, if there are several, a table. */
static void push_message(lua_State *L, struct socket *self, bool always_table) {
  bool several = zmq_msg_more(&self->incoming);
  push_part(L, self);
  if (!several && !always_table)
    return;
  lua_createtable(L, 4, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 1);
  for (lua_Integer i = 2; zmq_msg_more(&self->incoming) && take(self); i++) {
    push_part(L, self);
    lua_rawseti(L, -2, i);
  }
}

/***
 * ZSocket:receive_multipart([timeout]): the same, with the parts in a table.
 * @param timeout? number|Timeout  seconds
 * @return string[]|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: pyzmq's Socket.recv_multipart.
 */
static int receive_multipart(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  if (!take(self))
    return refuse_to_receive(L);
  push_message(L, self, true);
  return 1;
}

/***
 * ZSocket:receive_batch([max [, timeout]]): waits for a message, and takes with it what else is
 * there.
 * @param max? integer  at most so many; 100 if nothing is said
 * @param timeout? number|Timeout  seconds
 * @return any[]|nil # messages: strings, and those of several parts as tables
 * @return string # the reason
 * @return integer # the errno
 */
static int receive_batch(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  lua_Integer max = luaL_optinteger(L, 2, 100);
  luaL_argcheck(L, max >= 1, 2, "at least 1 expected");
  if (!take(self))
    return refuse_to_receive(L);
  lua_createtable(L, max < 16 ? (int)max : 16, 0);
  lua_Integer count = 0;
  do {
    push_message(L, self, false);
    lua_rawseti(L, -2, ++count);
  } while (count < max && take(self));
  return 1;
}

/* ---- sending ---- */

static int send_part(struct socket *self, const char *data, size_t size, int flags) {
  int sent;
  while ((sent = zmq_send(self->zmq, data, size, flags | ZMQ_DONTWAIT)) < 0 && errno == EINTR)
    ;
  return sent < 0 ? errno : 0;
}

/* Before anything is sent, so that no message stays without its end. */
static lua_Integer check_parts(lua_State *L) {
  lua_Integer count = (lua_Integer)lua_rawlen(L, 2);
  luaL_argcheck(L, count > 0, 2, "a message has at least one part");
  for (lua_Integer i = 1; i <= count; i++) {
    int type = lua_rawgeti(L, 2, i);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
      luaL_argerror(
          L, 2, lua_pushfstring(L, "part %d is a %s, not a string", (int)i, lua_typename(L, type)));
    lua_pop(L, 1);
  }
  return count;
}

static int send_parts(lua_State *L, struct socket *self, int flags) {
  lua_Integer count = check_parts(L);
  int failure = 0;
  for (lua_Integer i = 1; i <= count && !failure; i++) {
    size_t size;
    lua_rawgeti(L, 2, i);
    const char *data = lua_tolstring(L, -1, &size);
    failure = send_part(self, data, size, i < count ? flags | ZMQ_SNDMORE : flags);
    lua_pop(L, 1);
  }
  return failure;
}

static int finish_sending(lua_State *L, int failure, int flags) {
  if (failure == EAGAIN && !(flags & ZMQ_DONTWAIT))
    return EDGE_AGAIN;
  if (failure && failure != EAGAIN)
    return binding_fail(L, failure);
  if (failure) {
    luaL_pushfail(L);
    lua_pushliteral(L, "timeout");
    return 2;
  }
  lua_pushboolean(L, 1);
  return 1;
}

/***
 * ZSocket:send(message [, flags [, timeout]]): sends a message, and waits for room for it first.
 * @param message string|string[]  or its parts
 * @param flags? integer  zmq.SNDMORE: more parts follow; zmq.DONTWAIT: like a timeout of 0
 * @param timeout? number|Timeout  seconds; without one the option SNDTIMEO counts
 * @return true|nil
 * @return string # the reason: "timeout", "closed", "Context was terminated" ...
 * @return integer # the errno
 * Source: pyzmq's Socket.send and send_multipart.
 */
static int send_message(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  size_t size;
  int flags = (int)luaL_optinteger(L, 3, 0);
  if (lua_istable(L, 2))
    return finish_sending(L, send_parts(L, self, flags & ZMQ_SNDMORE), flags);
  const char *data = luaL_checklstring(L, 2, &size);
  return finish_sending(L, send_part(self, data, size, flags & ZMQ_SNDMORE), flags);
}

/* ---- passing on ---- */

static bool has_room(struct socket *self) { return edge_ready(&self->edge) & EDGE_OUT; }

static int send_copy(zmq_msg_t *part, void *to, int flags) {
  zmq_msg_t copy;
  zmq_msg_init(&copy);
  if (zmq_msg_copy(&copy, part) == 0 && zmq_msg_send(&copy, to, flags) >= 0)
    return 0;
  int failure = errno;
  zmq_msg_close(&copy);
  return failure;
}

/* Passes the message that has begun to arrive on, part by part; 0, or an errno. */
static int pass_on(struct socket *from, struct socket *to, struct socket *capture) {
  for (;;) {
    int more = zmq_msg_more(&from->incoming);
    int flags = more ? ZMQ_SNDMORE | ZMQ_DONTWAIT : ZMQ_DONTWAIT;
    int failure = capture ? send_copy(&from->incoming, capture->zmq, flags) : 0;
    if (failure)
      return failure;
    if (zmq_msg_send(&from->incoming, to->zmq, flags) < 0)
      return errno;
    if (!more)
      return 0;
    if (!take(from))
      return errno;
  }
}

#define MAX_PASSED 100

/*
 * socket:_pass(to, capture, timeout): waits for messages and passes them on; true: some, and there
 * may be more; false: another socket has no room.
 */
static int pass(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  struct socket *to = self ? socket_check_open(L, 2) : NULL;
  if (!to)
    return 2;
  struct socket *capture = lua_isnil(L, 3) ? NULL : socket_check_open(L, 3);
  if (!capture && !lua_isnil(L, 3))
    return 2;
  int passed = 0, failure = 0;
  bool room = true;
  while (passed < MAX_PASSED && !failure) {
    room = has_room(to) && (!capture || has_room(capture));
    if (!room)
      break;
    failure = take(self) ? pass_on(self, to, capture) : errno;
    passed += !failure;
  }
  edge_changed(&to->edge);
  if (failure == EAGAIN && passed == 0)
    return EDGE_AGAIN;
  if (failure && failure != EAGAIN)
    return binding_fail(L, failure);
  lua_pushboolean(L, room);
  return 1;
}

const struct named_operation message_operations[] = {
    {"receive", {"ZSocket:receive", &socket_edge, EDGE_IN, 2, receive}},
    {"receive_multipart",
     {"ZSocket:receive_multipart", &socket_edge, EDGE_IN, 2, receive_multipart}},
    {"receive_batch", {"ZSocket:receive_batch", &socket_edge, EDGE_IN, 3, receive_batch}},
    {"send", {"ZSocket:send", &socket_edge, EDGE_OUT, 4, send_message}},
    {"_pass", {"zmq.proxy", &socket_edge, EDGE_IN, 4, pass}},
    {NULL, {0}}};
