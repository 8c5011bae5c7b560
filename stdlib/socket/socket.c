/*
 * socket.c: what all sockets share (see socket.h).
 */
#define _GNU_SOURCE
#include "socket.h"

#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- results ---- */

const char *sock_message(int error) {
  switch (error) {
  case EPIPE:
  case ECONNABORTED:
  case ECONNRESET:
  case EBADF:
    return "closed";
  case ETIMEDOUT:
    return "timeout";
  case EISCONN:
    return "already connected";
  case EACCES:
    return "permission denied";
  case ECONNREFUSED:
    return "connection refused";
  case EADDRINUSE:
    return "address already in use";
  default:
    return strerror(error);
  }
}

int sock_fail(lua_State *L, int error) {
  luaL_pushfail(L);
  lua_pushstring(L, sock_message(error));
  lua_pushinteger(L, error);
  return 3;
}

int sock_fail_with(lua_State *L, const char *message) {
  luaL_pushfail(L);
  lua_pushstring(L, message);
  return 2;
}

/* ---- life ---- */

void sock_init(lua_State *L, void *object) {
  struct sock *self = object;
  self->hub = hub_of(L);
  self->fd = -1;
  self->accepted = -1;
  self->block = self->total = -1;
  self->born = hub_now(self->hub);
}

int sock_open(lua_State *L, struct sock *self, int family, int type) {
  if (self->fd >= 0)
    return 0;
  int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return errno;
  sock_adopt(L, self, fd, family);
  return 0;
}

/* As LuaSocket's, one made for IPv6 leaves IPv4 to others. */
int sock_make(lua_State *L, const struct class_kind *kind, int family, int type) {
  struct sock *self = class_new(L, kind);
  int on = 1, error = family == AF_UNSPEC ? 0 : sock_open(L, self, family, type);
  if (!error && family == AF_INET6 &&
      setsockopt(self->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
    error = errno;
  return error ? sock_fail(L, error) : 1;
}

void sock_adopt(lua_State *L, struct sock *self, int fd, int family) {
  self->fd = fd;
  self->family = (uint8_t)family;
  self->ring = io_own(L, self->hub, &self->fd);
}

int sock_release(struct hub *hub, struct sock *self) {
  int fd = self->fd;
  if (fd >= 0 && hub)
    io_disown(hub, fd);
  self->fd = -1;
  if (self->accepted >= 0)
    close(self->accepted);
  self->accepted = -1;
  return fd;
}

void sock_drop(struct sock *self) {
  int fd = sock_release(self->hub, self);
  if (fd >= 0)
    close(fd);
}

void sock_unopen(struct sock *self) {
  sock_drop(self);
  self->family = AF_UNSPEC;
}

/* ---- blocking calls ---- */

double sock_due(const struct sock *self) {
  return self->total < 0 || !self->hub ? -1 : hub_now(self->hub) + self->total;
}

double sock_limit(const struct sock *self, double due) {
  double limit = self->block < 0 ? NO_LIMIT : self->block;
  if (due >= 0) {
    double rest = due - hub_now(self->hub);
    if (rest < limit)
      limit = rest > 0 ? rest : 0;
  }
  return limit;
}

double sock_lookup_limit(const struct sock *self, double due) {
  double limit = sock_limit(self, due);
  return limit > 0 ? limit : NO_LIMIT;
}

/* Without a current greenlet, in a finalizer, nothing can wait: wait_in says so. */
int sock_again(struct sock *self, int events, double due) {
  struct greenlet *g = self->hub->current;
  if (unlikely(!g))
    return WAIT_AGAIN;
  g->wait.events = (short)events;
  if (self->block >= 0)
    wait_renew(g, sock_limit(self, due));
  return WAIT_AGAIN;
}

/* What a wait before this one has found is of no interest. */
static void begin(struct sock *self) {
  if (self->fd >= 0 && likely(self->hub->current != NULL))
    self->hub->current->wait.revents = 0;
}

int sock_wait(lua_State *L, struct sock *self, int events, double due,
              const struct wait_kind *kind) {
  begin(self);
  sock_again(self, events, due);
  return wait_in(L, self->ring, sock_limit(self, due), kind);
}

int sock_pause(lua_State *L, struct sock *self, double *due, bool first, double seconds,
               const struct wait_kind *kind) {
  double limit = sock_limit(self, *due);
  if (first && limit != NO_LIMIT)
    *due = hub_now(self->hub) + limit;
  sock_again(self, 0, *due);
  return wait_in(L, self->ring, limit < seconds ? limit : seconds, kind);
}

static int refuse(lua_State *L, const char *verb) {
  return luaL_error(L, "socket already used by another greenlet, which is %s", verb);
}

int sock_read(lua_State *L, struct sock *self, const struct wait_kind *kind) {
  if (self->fd >= 0 && unlikely(io_reading(self->ring)))
    return refuse(L, "reading from it");
  begin(self);
  self->read_due = sock_due(self);
  int results = kind->step(L, false);
  if (results != WAIT_AGAIN)
    return results;
  return wait_in(L, self->ring, sock_limit(self, self->read_due), kind);
}

int sock_write(lua_State *L, struct sock *self, const struct wait_kind *kind) {
  if (self->fd >= 0 && unlikely(io_writing(self->ring)))
    return refuse(L, "writing to it");
  begin(self);
  self->write_due = sock_due(self);
  int results = kind->step(L, false);
  if (results != WAIT_AGAIN)
    return results;
  return wait_in(L, self->ring, sock_limit(self, self->write_due), kind);
}

/* ---- methods of all sockets ---- */

static struct sock *check(lua_State *L) { return class_check(L, 1, &sock_kind); }

/***
 * Socket:settimeout([seconds [, mode]]): limits how long its calls may wait.
 * @param seconds? number  nil or below 0: no limit; 0: calls do not wait, but for a name that they
 *   look up
 * @param mode? "b"|"t"|"r"  "b": each single wait (the default); "t" or "r": each call as a whole
 * @return integer # 1
 * Source: LuaSocket.
 */
static int l_settimeout(lua_State *L) {
  struct sock *self = check(L);
  lua_Number seconds = luaL_optnumber(L, 2, -1);
  const char *mode = luaL_optstring(L, 3, "b");
  luaL_argcheck(L, seconds == seconds, 2, "timeout is not a number");
  luaL_argcheck(L, strchr("btr", *mode) && *mode, 3, "invalid timeout mode");
  *(*mode == 'b' ? &self->block : &self->total) = seconds < 0 ? -1 : seconds;
  lua_pushinteger(L, 1);
  return 1;
}

/***
 * Socket:gettimeout(): the limits that settimeout has set.
 * @return number # of each wait, seconds; -1: none
 * @return number # of each call
 * Source: LuaSocket.
 */
static int l_gettimeout(lua_State *L) {
  const struct sock *self = check(L);
  lua_pushnumber(L, self->block);
  lua_pushnumber(L, self->total);
  return 2;
}

/***
 * Socket:getfd(): its descriptor; -1 if there is none yet, or it is closed.
 * @return integer
 * Source: LuaSocket.
 */
static int l_getfd(lua_State *L) {
  lua_pushinteger(L, check(L)->fd);
  return 1;
}

/* An option of a descriptor that may be anything; false: it is no open socket. */
static bool read_option(lua_Integer fd, int option, int *value) {
  socklen_t size = sizeof *value;
  return fd >= 0 && fd <= INT_MAX && getsockopt((int)fd, SOL_SOCKET, option, value, &size) == 0;
}

static enum sock_role role_of(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  int listening = 0;
  if (read_option(fd, SO_ACCEPTCONN, &listening) && listening)
    return SOCK_SERVER;
  return getpeername(fd, (struct sockaddr *)&address, &length) == 0 ? SOCK_CLIENT : SOCK_MASTER;
}

static void set_descriptor(lua_State *L, struct sock *self, lua_Integer fd) {
  int domain = 0, type = 0, on = 1;
  bool datagram = self->object.kind == &udp_kind || self->object.kind == &unix_dgram_kind;
  luaL_argcheck(L, read_option(fd, SO_DOMAIN, &domain) && read_option(fd, SO_TYPE, &type), 2,
                "not an open socket");
  luaL_argcheck(L, type == (datagram ? SOCK_DGRAM : SOCK_STREAM), 2, "a socket of another type");
  luaL_argcheck(L, self->object.kind != &secure_kind, 1, "cannot be set under TLS");
  sock_release(self->hub, self);
  ioctl((int)fd, FIONBIO, &on);
  sock_adopt(L, self, (int)fd, domain);
  self->role = role_of((int)fd);
}

/***
 * Socket:setfd(fd): gives it another descriptor; the one before stays open, for its new owner.
 * Whoever waits on the one before gets nil, "closed".  A socket of Moonlet's that has the new
 * one loses it.
 * @param fd integer  an open socket, or -1 for none
 * Source: LuaSocket.
 */
int sock_setfd(lua_State *L) {
  struct sock *self = check(L);
  lua_Integer fd = luaL_checkinteger(L, 2);
  luaL_argcheck(L, self->hub, 1, "has been collected");
  if (fd == -1)
    sock_release(self->hub, self);
  else if (fd != self->fd)
    set_descriptor(L, self, fd);
  self->closed = false;
  return 0;
}

/***
 * Socket:getfamily(): "inet", "inet6", "unix", or "unspec" while none is chosen.
 * @return string
 * Source: LuaSocket.
 */
static int l_getfamily(lua_State *L) {
  lua_pushstring(L, address_family_name(check(L)->family));
  return 1;
}

/***
 * Socket:getstats(): what has passed through it.
 * @return integer # bytes received
 * @return integer # bytes sent
 * @return number # its age, seconds
 * Source: LuaSocket.
 */
static int l_getstats(lua_State *L) {
  const struct sock *self = check(L);
  lua_pushinteger(L, (lua_Integer)self->received);
  lua_pushinteger(L, (lua_Integer)self->sent);
  lua_pushnumber(L, self->hub ? hub_now(self->hub) - self->born : 0);
  return 3;
}

/***
 * Socket:setstats([received [, sent [, age]]]): sets the counters that getstats returns.
 * @param received? integer  bytes
 * @param sent? integer
 * @param age? number  seconds
 * @return integer # 1
 * Source: LuaSocket.
 */
static int l_setstats(lua_State *L) {
  struct sock *self = check(L);
  lua_Integer received = luaL_optinteger(L, 2, (lua_Integer)self->received);
  lua_Integer sent = luaL_optinteger(L, 3, (lua_Integer)self->sent);
  lua_Number now = self->hub ? hub_now(self->hub) : 0, age = luaL_optnumber(L, 4, now - self->born);
  self->received = (uint64_t)received;
  self->sent = (uint64_t)sent;
  self->born = now - age;
  lua_pushinteger(L, 1);
  return 1;
}

static int push_name(lua_State *L,
                     int (*ask)(int, struct sockaddr *restrict, socklen_t *restrict)) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  const struct sock *self = check(L);
  if (self->fd < 0)
    return sock_fail_with(L, "closed");
  if (ask(self->fd, (struct sockaddr *)&address, &length) != 0)
    return sock_fail(L, errno);
  return address_push(L, (struct sockaddr *)&address, length);
}

/***
 * Socket:getsockname(): its own address.
 * @return string|nil # host, or the path of a unix socket
 * @return integer|string # port
 * @return "inet"|"inet6"|integer|nil
 * Source: LuaSocket.
 */
static int l_getsockname(lua_State *L) { return push_name(L, getsockname); }

/***
 * Socket:getpeername(): its peer's address.
 * @return string|nil # host, or the path of a unix socket
 * @return integer|string # port
 * @return "inet"|"inet6"|integer|nil
 * Source: LuaSocket.
 */
static int l_getpeername(lua_State *L) { return push_name(L, getpeername); }

/***
 * Socket:close(): closes it.  A second call does nothing.
 * Whoever waits on it gets nil, "closed" in a later turn.
 * @return integer # 1
 * Source: LuaSocket, gevent.
 */
static int l_close(lua_State *L) {
  struct sock *self = check(L);
  self->closed = true;
  sock_drop(self);
  lua_pushinteger(L, 1);
  return 1;
}

/* The hub may be gone before the last socket is, and another finalizer may use that still. */
int sock_gc(lua_State *L) {
  struct sock *self = check(L);
  int fd = sock_release(hub_peek(L), self);
  if (fd >= 0)
    close(fd);
  self->closed = true;
  self->block = self->total = -1;
  self->hub = NULL;
  return 0;
}

static const char *family_of_class(const struct class_kind *kind) {
  return kind == &udp_kind                                ? "udp"
         : kind == &unix_kind || kind == &unix_dgram_kind ? "unix"
         : kind == &secure_kind                           ? "ssl"
                                                          : "tcp";
}

/* LuaSocket's name of its class: "tcp{client}". */
static void push_class(lua_State *L, void *object) {
  const struct sock *self = object;
  const char *family = family_of_class(self->object.kind);
  static const char *const roles[] = {"master", "client", "server"};
  if (self->object.kind == &udp_kind || self->object.kind == &unix_dgram_kind)
    lua_pushfstring(L, "%s{%s}", family, self->role == SOCK_CLIENT ? "connected" : "unconnected");
  else
    lua_pushfstring(L, "%s{%s}", family, roles[self->role]);
}

static int l_tostring(lua_State *L) {
  struct sock *self = check(L);
  push_class(L, self);
  lua_pushfstring(L, "%s: %p%s", lua_tostring(L, -1), (void *)self,
                  self->closed ? " (closed)" : "");
  return 1;
}

static const luaL_Reg methods[] = {{"settimeout", l_settimeout},
                                   {"gettimeout", l_gettimeout},
                                   {"getfd", l_getfd},
                                   {"setfd", sock_setfd},
                                   {"getfamily", l_getfamily},
                                   {"getstats", l_getstats},
                                   {"setstats", l_setstats},
                                   {"getsockname", l_getsockname},
                                   {"getpeername", l_getpeername},
                                   {"setoption", sock_setoption},
                                   {"getoption", sock_getoption},
                                   {"close", l_close},
                                   {"__close", l_close},
                                   {"__gc", sock_gc},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

static const struct class_field fields[] = {{"class", push_class, NULL}, {NULL, NULL, NULL}};

/***
 * @class moonlet.socket.Socket: Object
 * What sockets of all kinds have in common.  They are made by tcp(), udp(), unix() and the like.
 * @field class string  LuaSocket's word for its kind and state: "tcp{client}"
 */
const struct class_kind sock_kind = {.name = "Socket",
                                     .size = sizeof(struct sock),
                                     .init = sock_init,
                                     .methods = methods,
                                     .fields = fields};
