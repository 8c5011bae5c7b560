/* unix.c: sockets of the unix domain, for streams and for datagrams, and pairs of them. */
#define _GNU_SOURCE
#include <sys/un.h>
#include <unistd.h>

#include "datagram.h"
#include "stream.h"

/* The unix socket at 1, of either kind, and its type. */
static struct sock *check(lua_State *L, int *type) {
  struct sock *self = class_test(L, 1, &unix_dgram_kind);
  *type = self ? SOCK_DGRAM : SOCK_STREAM;
  return self ? self : class_check(L, 1, &unix_kind);
}

/***
 * Unix:bind(path), Unix:setsockname(path), UnixDatagram:bind(path),
 * UnixDatagram:setsockname(path): gives it a name in the file system.
 * @param path string  if it begins with a NUL: a name in Linux's abstract space
 * @return integer|nil # 1
 * @return string # or why not
 * @return integer # errno
 * Source: LuaSocket.
 */
static int l_bind(lua_State *L) {
  struct sockaddr_un address;
  int type;
  struct sock *self = check(L, &type);
  socklen_t length = address_check_path(L, 2, &address);
  if (self->closed)
    return sock_fail_with(L, "closed");
  int error = sock_open(L, self, AF_UNIX, type);
  if (error || bind(self->fd, (struct sockaddr *)&address, length) != 0)
    return sock_fail(L, error ? error : errno);
  lua_pushinteger(L, 1);
  return 1;
}

/* The kernel says EAGAIN while the server's backlog is full, and cannot be asked to tell when. */
#define RETRY 0.005

static int connect_step(lua_State *L, bool timed_out);
static int retry_step(lua_State *L, bool timed_out);

static const struct wait_kind connect_kind = {"unix:connect", connect_step, SOCK_WRITING};
static const struct wait_kind retry_kind = {"unix:connect", retry_step, SOCK_WRITING};

static int connect_now(lua_State *L, bool timed_out, bool first) {
  struct sockaddr_un address;
  int type;
  struct sock *self = check(L, &type);
  socklen_t length = address_check_path(L, 2, &address);
  int error = 0;
  if (self->closed || (!first && sock_gone(self)))
    return sock_fail_with(L, "closed");
  if ((error = sock_open(L, self, AF_UNIX, type)) == 0 &&
      connect(self->fd, (struct sockaddr *)&address, length) == 0) {
    self->role = SOCK_CLIENT;
    lua_pushinteger(L, 1);
    return 1;
  }
  error = error ? error : errno;
  if (error != EAGAIN)
    return sock_fail(L, error);
  return timed_out ? sock_fail_with(L, "timeout")
                   : sock_pause(L, self, &self->write_due, first, RETRY, &retry_kind);
}

static int connect_step(lua_State *L, bool timed_out) { return connect_now(L, timed_out, true); }

static int retry_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, 1);
  (void)timed_out;
  return connect_now(L, sock_limit(self, self->write_due) <= 0, false);
}

/***
 * Unix:connect(path), Unix:setpeername(path), UnixDatagram:connect(path),
 * UnixDatagram:setpeername(path): connects it to a server; a datagram socket to its peer.
 * @param path string
 * @return integer|nil # 1
 * @return string # "timeout", "connection refused" or another reason
 * @return integer # errno
 * Source: LuaSocket.
 */
static int l_connect(lua_State *L) {
  int type;
  struct sockaddr_un address;
  struct sock *self = check(L, &type);
  address_check_path(L, 2, &address);
  lua_settop(L, 2);
  return sock_write(L, self, &connect_kind);
}

/* socket.unix() and socket.unix.stream(). */
int socket_unix_stream(lua_State *L) {
  struct sock *self = class_new(L, &unix_kind);
  self->family = AF_UNIX;
  return 1;
}

/* socket.unix.dgram(). */
int socket_unix_dgram(lua_State *L) {
  struct sock *self = class_new(L, &unix_dgram_kind);
  self->family = AF_UNIX;
  return 1;
}

/***
 * socket.socketpair(): two unix sockets that are connected to each other.
 * @return Unix|nil
 * @return Unix|string # or why there are none
 * @return integer # errno
 * Source: socketpair(2).
 */
int socket_socketpair(lua_State *L) {
  int fds[2];
  struct sock *ends[2];
  for (int i = 0; i < 2; i++)
    ends[i] = class_new(L, &unix_kind);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
    return sock_fail(L, errno);
  for (int i = 0; i < 2; i++) {
    ends[i]->fd = fds[i];
    ends[i]->family = AF_UNIX;
    ends[i]->role = SOCK_CLIENT;
  }
  for (int i = 0; i < 2; i++)
    sock_adopt(L, ends[i], fds[i], AF_UNIX);
  return 2;
}

static const luaL_Reg stream_methods[] = {{"bind", l_bind},
                                          {"setsockname", l_bind},
                                          {"connect", l_connect},
                                          {"setpeername", l_connect},
                                          {"listen", tcp_listen},
                                          {"accept", tcp_accept},
                                          {NULL, NULL}};

/***
 * @class moonlet.socket.Unix: Stream
 * A unix socket for streams.
 */
const struct class_kind unix_kind = {.name = "Unix",
                                     .base = &stream_kind,
                                     .size = sizeof(struct stream),
                                     .init = sock_init,
                                     .methods = stream_methods};

/* ---- datagrams ---- */

static socklen_t check_path(lua_State *L, int arg, struct sockaddr_storage *address) {
  return address_check_path(L, arg, (struct sockaddr_un *)address);
}

/***
 * UnixDatagram:sendto(data, path): sends a datagram.
 * @param data string
 * @param path string  the receiver's
 * @return integer|nil # 1
 * @return string # "timeout", "closed" or another reason
 * @return integer # errno
 * Source: LuaSocket.
 */
static int l_sendto(lua_State *L) {
  return datagram_send_to(L, class_check(L, 1, &unix_dgram_kind), check_path);
}

static const luaL_Reg dgram_methods[] = {{"bind", l_bind},
                                         {"setsockname", l_bind},
                                         {"connect", l_connect},
                                         {"setpeername", l_connect},
                                         {"sendto", l_sendto},
                                         DATAGRAM_METHODS,
                                         {NULL, NULL}};

/***
 * @class moonlet.socket.UnixDatagram: Socket
 * A unix socket for datagrams.
 */
const struct class_kind unix_dgram_kind = {.name = "UnixDatagram",
                                           .base = &sock_kind,
                                           .size = sizeof(struct sock),
                                           .init = sock_init,
                                           .methods = dgram_methods};
