/*
 * tcp.c: TCP sockets, as LuaSocket has them.
 *
 * A master becomes a server by listening, or a client by connecting.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include "lookup.h"
#include "stream.h"

static struct sock *check(lua_State *L) { return class_check(L, 1, &tcp_kind); }

/* ---- names ---- */

/* On the stack of bind and connect: the socket, host, service, the lookup. */
enum { SELF = 1, HOST, SERVICE, LOOKUP };

/* Waits for the address of host and service, and goes on with the kind's step. */
static int look_up(lua_State *L, struct sock *self, int flags, const struct wait_kind *kind) {
  address_check(L, HOST);
  lua_settop(L, SERVICE);
  const char *host = lua_tostring(L, HOST), *service = lua_tostring(L, SERVICE);
  if (flags & AI_PASSIVE && host[0] == '*' && !host[1])
    host = NULL;
  self->write_due = sock_due(self);
  struct lookup *lookup = lookup_begin(L, host, service, self->family, SOCK_STREAM, flags);
  if (lookup_done(lookup))
    return kind->step(L, false);
  return wait_in(L, lookup_ring(lookup), sock_lookup_limit(self, self->write_due), kind);
}

/* The lookup at LOOKUP when its wait has ended; `results`: what to return instead of going on. */
static const struct addrinfo *looked_up(lua_State *L, bool timed_out, int *results) {
  struct lookup *lookup = lua_touserdata(L, LOOKUP);
  *results = WAIT_AGAIN;
  if (timed_out) {
    lookup_abandon(lookup);
    *results = sock_fail_with(L, "timeout");
  } else if (lookup_done(lookup) && !lookup_result(lookup)) {
    *results = lookup_push_failure(L, lookup);
  } else if (lookup_done(lookup)) {
    return lookup_result(lookup);
  }
  return NULL;
}

/* ---- bind, listen ---- */

static int bind_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, SELF);
  int results, error = 0;
  const struct addrinfo *at = looked_up(L, timed_out, &results);
  if (!at)
    return results;
  if (self->closed)
    return sock_fail_with(L, "closed");
  bool fresh = self->fd < 0;
  for (; at; at = at->ai_next) {
    error = sock_open(L, self, at->ai_family, SOCK_STREAM);
    if (!error && bind(self->fd, at->ai_addr, at->ai_addrlen) == 0)
      return lua_pushinteger(L, 1), 1;
    error = error ? error : errno;
    if (fresh)
      sock_unopen(self);
  }
  return sock_fail(L, error);
}

/***
 * TCP:bind(host, port), TCP:setsockname(host, port): gives it an address of its own.
 * @param host string  "*" for all
 * @param port integer|string  0: a free one
 * @return integer|nil # 1
 * @return string # or why not
 * @return integer # errno
 * Source: LuaSocket.
 */
static int l_bind(lua_State *L) {
  static const struct wait_kind kind = {"tcp:bind", bind_step, .external = true,
                                        .enter = lookup_enter, .leave = lookup_leave};
  return look_up(L, check(L), AI_PASSIVE, &kind);
}

/***
 * TCP:listen([backlog]), Unix:listen([backlog]): makes it a server, which accepts connections.
 * @param backlog? integer  how many may wait to be accepted (32)
 * @return integer|nil # 1
 * @return string # or why not
 * @return integer # errno
 * Source: LuaSocket.
 */
int tcp_listen(lua_State *L) {
  struct sock *self = class_check(L, 1, &stream_kind);
  int backlog = (int)luaL_optinteger(L, 2, 32);
  if (self->closed)
    return sock_fail_with(L, "closed");
  int family = self->family == AF_UNSPEC ? AF_INET : self->family;
  int error = sock_open(L, self, family, SOCK_STREAM);
  if (error || listen(self->fd, backlog) != 0)
    return sock_fail(L, error ? error : errno);
  self->role = SOCK_SERVER;
  lua_pushinteger(L, 1);
  return 1;
}

/* ---- accept ---- */

/* Room for another descriptor, or memory, may come back. */
#define BACK_OFF 0.01

static bool is_scarce(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* The peer, or the network, has had second thoughts about this one connection. */
static bool is_passing(int error) {
  return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
         error == ENETUNREACH || error == EHOSTDOWN || error == EHOSTUNREACH || error == ENONET;
}

/* On the stack of accept: the server, an object that is done with its last client, a timeout. */
enum { USED = 2, TIMEOUT };

static struct sock *client_of(lua_State *L, const struct sock *server) {
  struct stream *used = lua_touserdata(L, USED);
  if (!used)
    return class_new(L, server->object.kind);
  stream_discard(used);
  used->drained = false;
  used->sock.closed = false;
  used->sock.received = used->sock.sent = 0;
  used->sock.born = hub_now(server->hub);
  lua_pushvalue(L, USED);
  return &used->sock;
}

/* The server keeps the descriptor until there is an object to own it. */
static int push_accepted(lua_State *L, struct sock *server, const struct address *peer) {
  struct sock *client = client_of(L, server);
  if (server->accepted < 0) /* closed by a finalizer */
    return sock_fail_with(L, "closed");
  sock_adopt(L, client, server->accepted, server->family);
  server->accepted = -1;
  client->role = SOCK_CLIENT;
  if (!peer)
    return 1;
  lua_Number seconds = luaL_optnumber(L, TIMEOUT, -1);
  client->block = seconds < 0 ? -1 : seconds;
  return 1 + address_push_text(L, peer);
}

/* accept4 makes a file before it looks for a connection: to learn from it that there is none costs
   ten times as much as to ask. */
static bool has_connection(const struct sock *self) {
  const struct greenlet *g = self->hub->current;
  struct pollfd polled = {.fd = self->fd, .events = POLLIN};
  return (g && g->wait.revents & EV_READ) || poll(&polled, 1, 0) != 0;
}

/* Leaves a connection in `accepted`: 0, or an errno. */
static int take_connection(struct sock *self, struct address *peer) {
  struct sockaddr *address = peer ? &peer->any : NULL;
  socklen_t *length = peer ? &peer->length : NULL;
  if (self->accepted >= 0 && peer && getpeername(self->accepted, address, length) != 0)
    peer->any.sa_family = AF_UNSPEC;
  while (self->accepted < 0) {
    if (!has_connection(self))
      return EAGAIN;
    self->accepted = accept4(self->fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (self->accepted < 0 && !is_passing(errno))
      return errno;
  }
  return 0;
}

static int resume_step(lua_State *L, bool timed_out);

static const struct wait_kind scarce_kind = {"socket:accept (no descriptor is free)", resume_step,
                                             SOCK_READING};

static int accept_now(lua_State *L, bool timed_out, bool first) {
  struct sock *self = lua_touserdata(L, 1);
  if (sock_gone(self))
    return sock_fail_with(L, "closed");
  struct address peer, *wanted = lua_gettop(L) > 1 ? &peer : NULL;
  peer.length = sizeof peer.room;
  int error = take_connection(self, wanted);
  if (!error)
    return push_accepted(L, self, wanted);
  if (error == EAGAIN)
    return timed_out ? sock_fail_with(L, "timeout") : sock_again(self, EV_READ, self->read_due);
  return is_scarce(error) && !timed_out
             ? sock_pause(L, self, &self->read_due, first, BACK_OFF, &scarce_kind)
             : sock_fail(L, error);
}

static int accept_step(lua_State *L, bool timed_out) { return accept_now(L, timed_out, true); }

static const struct wait_kind accept_kind = {"socket:accept", accept_step, SOCK_READING};

/* Had a pause for want of descriptors. */
static int resume_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, 1);
  (void)timed_out;
  int results = accept_now(L, sock_limit(self, self->read_due) <= 0, false);
  return results == WAIT_AGAIN ? sock_wait(L, self, EV_READ, self->read_due, &accept_kind)
                               : results;
}

/***
 * TCP:accept(), Unix:accept(): waits for a connection.
 * While the process has no descriptor left, it goes on trying.
 * @return TCP|nil # the client
 * @return string # "timeout", "closed" or another reason
 * @return integer # errno
 * @raise an error if it does not listen, or another greenlet is accepting
 * Source: LuaSocket.
 */
int tcp_accept(lua_State *L) {
  struct sock *self = class_check(L, 1, &stream_kind);
  luaL_argcheck(L, self->role == SOCK_SERVER, 1, "socket does not listen");
  lua_settop(L, 1);
  return sock_read(L, self, &accept_kind);
}

/*
 * accept(server, used, timeout): the same for a server that has such clients again and again. The
 * object `used` (or nil) is closed and nobody has it any more; it is the next client's, with that
 * timeout. Returns the client's address as text besides (of a unix socket "").
 */
int tcp_accept_into(lua_State *L) {
  struct sock *self = &stream_check(L)->sock;
  const struct stream *used = lua_touserdata(L, USED);
  luaL_argcheck(L, self->role == SOCK_SERVER, 1, "socket does not listen");
  luaL_argcheck(L, !used || (used->sock.object.kind == self->object.kind && used->sock.fd < 0),
                USED, "closed socket of the same class expected");
  lua_settop(L, TIMEOUT);
  return sock_read(L, self, &accept_kind);
}

/* ---- connect ---- */

/* On the stack above the lookup: the address being tried, the last failure, whether the
   socket had a descriptor before, which is kept for its options. */
enum { ADDRESS = LOOKUP + 1, FAILURE, KEEP };

static int connect_step(lua_State *L, bool timed_out);

static const struct wait_kind connect_kind = {
    .name = "tcp:connect", .step = connect_step, SOCK_WRITING};

static int connected(lua_State *L, struct sock *self) {
  self->role = SOCK_CLIENT;
  lookup_abandon(lua_touserdata(L, LOOKUP));
  lua_pushinteger(L, 1);
  return 1;
}

/* The address was no good: the socket is to try another. */
static void forsake(lua_State *L, struct sock *self) {
  const struct sockaddr none = {.sa_family = AF_UNSPEC};
  if (!lua_toboolean(L, KEEP))
    sock_unopen(self);
  else
    (void)connect(self->fd, &none, sizeof none);
}

/* Tries one address after the other, from the one at ADDRESS on. */
static int try_addresses(lua_State *L, struct sock *self) {
  const struct addrinfo *at = lua_touserdata(L, ADDRESS);
  for (; at; at = at->ai_next) {
    int error = sock_open(L, self, at->ai_family, SOCK_STREAM);
    if (!error && (connect(self->fd, at->ai_addr, at->ai_addrlen) == 0))
      return connected(L, self);
    error = error ? error : errno;
    if (error == EINPROGRESS || error == EALREADY) {
      lua_pushlightuserdata(L, (void *)at);
      lua_replace(L, ADDRESS);
      self->role = SOCK_CLIENT;
      return sock_wait(L, self, EV_WRITE, self->write_due, &connect_kind);
    }
    if (error == EISCONN)
      return sock_fail(L, error);
    lua_pushinteger(L, error);
    lua_replace(L, FAILURE);
    forsake(L, self);
  }
  self->role = SOCK_MASTER;
  return sock_fail(L, (int)lua_tointeger(L, FAILURE));
}

static int connect_step(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, SELF);
  int error = 0;
  socklen_t size = sizeof error;
  const struct addrinfo *at = lua_touserdata(L, ADDRESS);
  if (sock_gone(self))
    return sock_fail_with(L, "closed");
  if (timed_out && (!at->ai_next || sock_limit(self, self->write_due) <= 0))
    return sock_fail_with(L, "timeout");
  if (timed_out)
    error = ETIMEDOUT;
  else
    getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (!error)
    return connected(L, self);
  lua_pushlightuserdata(L, at->ai_next);
  lua_replace(L, ADDRESS);
  lua_pushinteger(L, error);
  lua_replace(L, FAILURE);
  forsake(L, self);
  return try_addresses(L, self);
}

static int connect_looked_up(lua_State *L, bool timed_out) {
  struct sock *self = lua_touserdata(L, SELF);
  int results;
  const struct addrinfo *at = looked_up(L, timed_out, &results);
  if (!at)
    return results;
  if (self->closed)
    return sock_fail_with(L, "closed");
  if (self->fd >= 0 && io_writing(self->ring))
    return luaL_error(L, "socket already used by another greenlet, which is writing to it");
  lua_pushlightuserdata(L, (void *)at);
  lua_pushinteger(L, 0);
  lua_pushboolean(L, self->fd >= 0);
  return try_addresses(L, self);
}

/***
 * TCP:connect(host, port), TCP:setpeername(host, port): connects it to a server.
 * All addresses of the host are tried in turn.
 * @param host string  a name or an address
 * @param port integer|string
 * @return integer|nil # 1
 * @return string # "timeout", "connection refused" or another reason
 * @return integer # errno, or the resolver's number
 * Source: LuaSocket.
 */
static int l_connect(lua_State *L) {
  static const struct wait_kind kind = {"tcp:connect (the name)", connect_looked_up,
                                        .external = true, .enter = lookup_enter,
                                        .leave = lookup_leave};
  struct sock *self = check(L);
  luaL_argcheck(L, self->role != SOCK_SERVER, 1, "socket listens");
  return look_up(L, self, 0, &kind);
}

/* ---- making one ---- */

/***
 * socket.tcp(): a TCP socket, of IPv4 or IPv6 as its first address is.
 * @return TCP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_tcp(lua_State *L) { return sock_make(L, &tcp_kind, AF_UNSPEC, SOCK_STREAM); }

/***
 * socket.tcp4(): a TCP socket for IPv4.
 * @return TCP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_tcp4(lua_State *L) { return sock_make(L, &tcp_kind, AF_INET, SOCK_STREAM); }

/***
 * socket.tcp6(): a TCP socket for IPv6, and that alone unless its option ipv6-v6only is set to
 * false.
 * @return TCP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_tcp6(lua_State *L) { return sock_make(L, &tcp_kind, AF_INET6, SOCK_STREAM); }

static const luaL_Reg methods[] = {{"bind", l_bind},
                                   {"setsockname", l_bind},
                                   {"listen", tcp_listen},
                                   {"accept", tcp_accept},
                                   {"connect", l_connect},
                                   {"setpeername", l_connect},
                                   {NULL, NULL}};

/***
 * @class moonlet.socket.TCP: Stream
 * A TCP socket.
 */
const struct class_kind tcp_kind = {.name = "TCP",
                                    .base = &stream_kind,
                                    .size = sizeof(struct stream),
                                    .init = sock_init,
                                    .methods = methods};
