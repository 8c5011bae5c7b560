/* datagram.c: see datagram.h. */
#define _GNU_SOURCE
#include "datagram.h"

#include <string.h>

/* LuaSocket's size of a datagram where none is asked for. */
#define DEFAULT_SIZE 8192

/* More than the kernel passes on in one piece, as configured anywhere. */
#define MAX_SIZE (16 << 20)

static struct sock *check(lua_State *L) {
  struct sock *self = class_test(L, 1, &udp_kind);
  return self ? self : class_check(L, 1, &unix_dgram_kind);
}

/* ---- sending ---- */

/* A unix socket without a peer counts as writable, whether the receiver has room or not. */
#define RETRY 0.002

static int retry_step(lua_State *L, bool timed_out);

static const struct wait_kind retry_kind = {"socket:sendto", retry_step, SOCK_WRITING};

/* On the stack: the socket, the data, the receiver's address as a string or nil. */
static int send_now(lua_State *L, bool timed_out, bool first) {
  struct sock *self = lua_touserdata(L, 1);
  size_t size, length = 0;
  const char *data = lua_tolstring(L, 2, &size);
  const char *address = lua_tolstring(L, 3, &length);
  if (sock_gone(self))
    return self->closed || self->ring ? sock_fail_with(L, "closed") : sock_fail(L, ENOTCONN);
  ssize_t count;
  do
    count = sendto(self->fd, data, size, MSG_NOSIGNAL, (const struct sockaddr *)address,
                   (socklen_t)length);
  while (count < 0 && errno == EINTR);
  if (count >= 0) {
    self->sent += (uint64_t)count;
    lua_pushinteger(L, 1);
    return 1;
  }
  if (errno != EAGAIN)
    return sock_fail(L, errno);
  if (timed_out)
    return sock_fail_with(L, "timeout");
  if (self->family == AF_UNIX && address)
    return sock_pause(L, self, &self->write_due, first, RETRY, &retry_kind);
  return sock_again(self, EV_WRITE, self->write_due);
}

static int retry_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, 1);
  (void)timed_out;
  return send_now(L, sock_limit(self, self->write_due) <= 0, false);
}

static int send_step(lua_State *L, bool timed_out) { return send_now(L, timed_out, true); }

static const struct wait_kind send_kind = {"socket:send", send_step, SOCK_WRITING};

/***
 * UDP:send(data), UnixDatagram:send(data): sends a datagram to the peer.
 * @param data string
 * @return integer|nil # 1
 * @return string # "timeout", "connection refused", "closed" or another reason
 * @return integer # errno
 * Source: LuaSocket.
 */
int datagram_send(lua_State *L) {
  struct sock *self = check(L);
  luaL_checkstring(L, 2);
  lua_settop(L, 2);
  lua_pushnil(L);
  return sock_write(L, self, &send_kind);
}

int datagram_send_to(lua_State *L, struct sock *self,
                     socklen_t (*check_address)(lua_State *, int, struct sockaddr_storage *)) {
  struct sockaddr_storage address;
  memset(&address, 0, sizeof address);
  luaL_checkstring(L, 2);
  socklen_t length = check_address(L, 3, &address);
  if (self->closed)
    return sock_fail_with(L, "closed");
  int error = sock_open(L, self, address.ss_family, SOCK_DGRAM);
  if (error)
    return sock_fail(L, error);
  lua_settop(L, 2);
  lua_pushlstring(L, (const char *)&address, length);
  return sock_write(L, self, &send_kind);
}

/* ---- receiving ---- */

/* Memory for a datagram: the hub's, unless a unix socket's may be larger. */
static char *room(lua_State *L, struct sock *self, size_t size) {
  return size <= IO_SCRATCH ? io_scratch(L, self->hub) : lua_newuserdatauv(L, size, 0);
}

/* A datagram that is larger than asked for is cut, as recv cuts it. */
static int receive_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, 1);
  size_t size = (size_t)lua_tointeger(L, 2);
  struct sockaddr_storage from;
  socklen_t length = sizeof from;
  if (sock_gone(self))
    return self->closed || self->ring ? sock_fail_with(L, "closed") : sock_fail(L, ENOTCONN);
  char *data = room(L, self, size);
  ssize_t count;
  do
    count = recvfrom(self->fd, data, size, 0, (struct sockaddr *)&from, &length);
  while (count < 0 && errno == EINTR);
  if (count < 0) {
    if (errno != EAGAIN)
      return sock_fail(L, errno);
    lua_settop(L, 3);
    return timed_out ? sock_fail_with(L, "timeout") : sock_again(self, EV_READ, self->read_due);
  }
  self->received += (uint64_t)count;
  lua_pushlstring(L, data, (size_t)count);
  if (!lua_toboolean(L, 3) || length == 0)
    return 1;
  int top = lua_gettop(L);
  int values = address_push(L, (struct sockaddr *)&from, length);
  values = values > 2 ? 2 : values; /* without the family */
  lua_settop(L, top + values);
  return 1 + values;
}

static int receive(lua_State *L, const struct wait_kind *kind, bool from) {
  struct sock *self = check(L);
  lua_Integer size = luaL_optinteger(L, 2, DEFAULT_SIZE);
  luaL_argcheck(L, size >= 0, 2, "must not be negative");
  lua_settop(L, 1);
  lua_pushinteger(L, size < MAX_SIZE ? size : MAX_SIZE);
  lua_pushboolean(L, from);
  return sock_read(L, self, kind);
}

/***
 * UDP:receive([size]), UnixDatagram:receive([size]): waits for a datagram.
 * @param size? integer  most bytes of it (8192); the others are lost
 * @return string|nil
 * @return string # "timeout", "connection refused", "closed" or another reason
 * @return integer # errno
 * @raise an error if another greenlet is receiving
 * Source: LuaSocket.
 */
int datagram_receive(lua_State *L) {
  static const struct wait_kind kind = {"socket:receive", receive_step, SOCK_READING};
  return receive(L, &kind, false);
}

/***
 * UDP:receivefrom([size]), UnixDatagram:receivefrom([size]): the same, with the sender.
 * @param size? integer  most bytes of it (8192); the others are lost
 * @return string|nil
 * @return string # the sender's address, or path; "timeout" or another reason
 * @return integer # its port; errno
 * Source: LuaSocket.
 */
int datagram_receive_from(lua_State *L) {
  static const struct wait_kind kind = {"socket:receivefrom", receive_step, SOCK_READING};
  return receive(L, &kind, true);
}

/***
 * UDP:dirty(), UnixDatagram:dirty(): false: a datagram socket keeps no input of its own.
 * @return boolean
 * Source: LuaSocket.
 */
int datagram_dirty(lua_State *L) {
  check(L);
  lua_pushboolean(L, 0);
  return 1;
}
