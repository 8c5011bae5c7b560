/*
 * stream.c: streams' bytes in and out, and the methods all streams have (see stream.h).
 */
#define _GNU_SOURCE
#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

struct stream *stream_check(lua_State *L) {
  struct class_object *object = lua_touserdata(L, 1);
  if (likely(object && lua_rawlen(L, 1) >= sizeof(struct stream))) {
    const struct class_kind *kind = object->kind;
    if (likely(kind == &tcp_kind || kind == &secure_kind || kind == &unix_kind))
      return (struct stream *)object;
  }
  return class_check(L, 1, &stream_kind);
}

/* The stream at 1 if it may carry data: connected, or once connected. */
static struct stream *check_connected(lua_State *L) {
  struct stream *self = stream_check(L);
  if (unlikely(self->sock.role != SOCK_CLIENT))
    luaL_argerror(L, 1, "socket is not connected");
  return self;
}

/* ---- bytes ---- */

static ssize_t word_of(int error, ssize_t want) {
  return error == EAGAIN || error == EWOULDBLOCK ? want : TRANSPORT_FAILED;
}

ssize_t stream_read(struct stream *self, char *data, size_t size) {
  ssize_t count;
  if (unlikely(self->transport != NULL))
    return self->transport->kind->read(self->transport, data, size);
  do
    count = recv(self->sock.fd, data, size, 0);
  while (unlikely(count < 0 && errno == EINTR));
  return count >= 0 ? count : word_of(errno, TRANSPORT_WANT_READ);
}

ssize_t stream_write(struct stream *self, const char *data, size_t size, int flags) {
  ssize_t count;
  if (unlikely(self->transport != NULL))
    return self->transport->kind->write(self->transport, data, size);
  do
    count = send(self->sock.fd, data, size, MSG_NOSIGNAL | flags);
  while (unlikely(count < 0 && errno == EINTR));
  return count >= 0 ? count : word_of(errno, TRANSPORT_WANT_WRITE);
}

int stream_fail(lua_State *L, struct stream *self, ssize_t word) {
  int error = errno;
  if (word == TRANSPORT_END || word == TRANSPORT_CUT || self->sock.fd < 0)
    return sock_fail_with(L, "closed");
  if (self->transport)
    return sock_fail_with(L, self->transport->kind->message(self->transport));
  return sock_fail_with(L, sock_message(error));
}

bool stream_dirty(const struct stream *self) {
  struct transport *transport = self->transport;
  return self->end > self->start ||
         (transport && self->sock.fd >= 0 && transport->kind->pending(transport));
}

void stream_discard(struct stream *self) {
  free(self->buffer);
  self->buffer = NULL;
  self->start = self->end = self->capacity = self->scanned = 0;
}

/* ---- send ---- */

static int send_result(lua_State *L, const struct stream *self, lua_Integer first,
                       const char *failure) {
  lua_Integer last = first - 1 + (lua_Integer)self->offset;
  if (!failure) {
    lua_pushinteger(L, last);
    return 1;
  }
  luaL_pushfail(L);
  lua_pushstring(L, failure);
  lua_pushinteger(L, last);
  return 3;
}

/* On the stack: the stream, the data. */
static int send_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, 1);
  lua_Integer first = self->first;
  size_t size = self->size;
  const char *data = lua_tostring(L, 2) + first - 1;
  while (self->offset < size) {
    if (sock_gone(&self->sock))
      return send_result(L, self, first, "closed");
    ssize_t count = stream_write(self, data + self->offset, size - self->offset, 0);
    if (count > 0) {
      self->offset += (size_t)count;
      self->sock.sent += (uint64_t)count;
      continue;
    }
    if (count == TRANSPORT_WANT_READ || count == TRANSPORT_WANT_WRITE) {
      if (timed_out)
        return send_result(L, self, first, stream_timeout(self, count));
      return sock_again(&self->sock, stream_events(count), self->sock.write_due);
    }
    stream_fail(L, self, count);
    return send_result(L, self, first, lua_tostring(L, -1));
  }
  return send_result(L, self, first, NULL);
}

static const struct wait_kind send_kind = {"socket:send", send_step, SOCK_WRITING};

/* Negative positions count from the end, as in string.sub. */
static lua_Integer position(lua_Integer at, size_t length) {
  if (at < 0)
    at += (lua_Integer)length + 1;
  return at;
}

/***
 * Stream:send(data [, first [, last]]): sends data, or a part of it.
 * Waits until all of it has gone to the kernel.
 * @param data string
 * @param first? integer  position of the first byte (1); negative ones count from the end
 * @param last? integer  of the last one (-1)
 * @return integer|nil # position of the last byte that was sent
 * @return string # "timeout", "closed" or another reason
 * @return integer # position of the last byte that was sent all the same
 * @raise an error if another greenlet is sending
 * Source: LuaSocket.
 */
static int l_send(lua_State *L) {
  struct stream *self = check_connected(L);
  size_t length;
  luaL_checklstring(L, 2, &length);
  lua_Integer first = 1, last = (lua_Integer)length;
  if (unlikely(lua_gettop(L) > 2)) {
    first = position(luaL_optinteger(L, 3, 1), length);
    last = position(luaL_optinteger(L, 4, -1), length);
    first = first < 1 ? 1 : first;
    last = last > (lua_Integer)length ? (lua_Integer)length : last;
    lua_settop(L, 2);
  }
  if (likely(self->sock.fd < 0 || !io_writing(self->sock.ring))) {
    self->first = first;
    self->size = last < first ? 0 : (size_t)(last - first + 1);
    self->offset = 0;
  }
  return sock_write(L, &self->sock, &send_kind);
}

/* ---- sendfile ---- */

/* On the stack: the stream, the file, its descriptor, offset and count (-1: to the end). */
static int sendfile_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, 1);
  int file = (int)lua_tointeger(L, 3);
  off_t at = lua_tointeger(L, 4) + (off_t)self->offset;
  lua_Integer count = lua_tointeger(L, 5);
  while (count < 0 || (lua_Integer)self->offset < count) {
    size_t rest = count < 0 ? 1 << 30 : (size_t)(count - (lua_Integer)self->offset);
    if (sock_gone(&self->sock))
      return send_result(L, self, 1, "closed");
    ssize_t sent = sendfile(self->sock.fd, file, &at, rest);
    if (sent == 0)
      break;
    if (sent > 0) {
      self->offset += (size_t)sent;
      self->sock.sent += (uint64_t)sent;
    } else if (errno == EAGAIN) {
      return timed_out ? send_result(L, self, 1, "timeout")
                       : sock_again(&self->sock, EV_WRITE, self->sock.write_due);
    } else if (errno != EINTR) {
      return send_result(L, self, 1, sock_message(errno));
    }
  }
  return send_result(L, self, 1, NULL);
}

static const struct wait_kind sendfile_kind = {"socket:sendfile", sendfile_step, SOCK_WRITING};

/***
 * Stream:sendfile(file [, offset [, count]]): sends a file's bytes without reading them into Lua.
 * The file's own position is not used and not moved.
 * @param file any  a Lua file, a descriptor, or an object with getfd
 * @param offset? integer  bytes to skip (0)
 * @param count? integer  bytes to send; without it up to the end
 * @return integer|nil # the number of bytes sent
 * @return string # "timeout", "closed" or another reason
 * @return integer # the number of bytes that were sent all the same
 * @raise an error for a connection under TLS, which has to see the bytes
 * Source: sendfile(2).
 */
static int l_sendfile(lua_State *L) {
  struct stream *self = check_connected(L);
  luaL_argcheck(L, !self->transport, 1, "not under TLS");
  lua_Integer offset = luaL_optinteger(L, 3, 0), count = luaL_optinteger(L, 4, -1);
  luaL_argcheck(L, offset >= 0, 3, "must not be negative");
  lua_settop(L, 2);
  lua_pushinteger(L, io_checkfd(L, 2));
  lua_pushinteger(L, offset);
  lua_pushinteger(L, count < 0 ? -1 : count);
  if (self->sock.fd < 0 || !io_writing(self->sock.ring))
    self->offset = 0;
  return sock_write(L, &self->sock, &sendfile_kind);
}

/* ---- other methods ---- */

/***
 * Stream:receive([pattern [, prefix]]): reads from it.
 * What has arrived beyond that is kept for the next call; so is all of it when the greenlet is
 * killed meanwhile.
 * @param pattern? "*l"|"*a"|integer  a line without its end (the default; CR is left out); all up
 *   to the end; so many bytes, where 0 waits until there is one and takes none
 * @param prefix? string  put before what is returned; it counts towards the number of bytes
 * @return string|nil
 * @return string # "closed", "timeout" or another reason
 * @return string # with nil: what has arrived all the same
 * @raise an error if another greenlet is reading
 * Source: LuaSocket.
 */
static int l_receive(lua_State *L) {
  check_connected(L);
  return stream_receive(L);
}

/***
 * Stream:recv([size]): reads what there is, and waits only if there is nothing.
 * @param size? integer  most bytes (65536)
 * @return string|nil # at least one byte
 * @return string # "closed", "timeout" or another reason
 * @return integer # errno if the peer did not end the connection in an orderly way
 * @raise an error if another greenlet is reading
 * Source: gevent.socket.socket.recv.
 */
static int l_recv(lua_State *L) {
  check_connected(L);
  return stream_recv(L);
}

/***
 * Stream:dirty(): whether it has input that select cannot see.
 * @return boolean
 * Source: LuaSocket.
 */
static int l_dirty(lua_State *L) {
  lua_pushboolean(L, stream_dirty(stream_check(L)));
  return 1;
}

/***
 * Stream:shutdown([how]): ends one direction, or both.
 * @param how? "both"|"send"|"receive"  "both" if nothing is said
 * @return integer|nil # 1
 * @return string # or why it failed
 * @return integer # errno
 * Source: LuaSocket.
 */
static int l_shutdown(lua_State *L) {
  static const char *const names[] = {"receive", "send", "both", NULL};
  struct stream *self = stream_check(L);
  int how = luaL_checkoption(L, 2, "both", names);
  if (self->sock.fd < 0)
    return sock_fail_with(L, "closed");
  if (self->transport && how != SHUT_RD)
    self->transport->kind->farewell(self->transport);
  if (shutdown(self->sock.fd, how) != 0)
    return sock_fail(L, errno);
  lua_pushinteger(L, 1);
  return 1;
}

/* A farewell is tried once: who closes does not wait for the peer. */
static void finish(struct stream *self) {
  if (self->transport && self->sock.fd >= 0)
    self->transport->kind->farewell(self->transport);
  if (self->transport)
    self->transport->fd = -1;
  self->sock.closed = true;
}

static int l_close(lua_State *L) {
  struct stream *self = stream_check(L);
  finish(self);
  sock_drop(&self->sock);
  lua_pushinteger(L, 1);
  return 1;
}

/* What the buffer holds came over the descriptor before. */
static int l_setfd(lua_State *L) {
  struct stream *self = stream_check(L);
  int before = self->sock.fd;
  sock_setfd(L);
  if (self->sock.fd >= 0 && self->sock.fd != before)
    stream_discard(self);
  return 0;
}

static int l_gc(lua_State *L) {
  stream_discard(stream_check(L));
  return sock_gc(L);
}

static const luaL_Reg methods[] = {
    {"receive", l_receive}, {"recv", l_recv},         {"send", l_send},   {"sendfile", l_sendfile},
    {"dirty", l_dirty},     {"shutdown", l_shutdown}, {"setfd", l_setfd}, {"close", l_close},
    {"__close", l_close},   {"__gc", l_gc},           {NULL, NULL}};

/***
 * @class moonlet.socket.Stream: Socket
 * A socket that carries a stream of bytes.
 */
const struct class_kind stream_kind = {.name = "Stream",
                                       .base = &sock_kind,
                                       .size = sizeof(struct stream),
                                       .init = sock_init,
                                       .methods = methods};
