/*
 * socket.c: what all sockets share (see socket.h).
 */
#define _GNU_SOURCE
#include "socket.h"

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

void sock_adopt(lua_State *L, struct sock *self, int fd, int family) {
  self->fd = fd;
  self->family = (uint8_t)family;
  self->ring = io_own(L, self->hub, fd);
}

int sock_release(struct hub *hub, struct sock *self) {
  int fd = self->fd;
  self->fd = -1;
  if (fd >= 0 && hub)
    io_disown(hub, fd);
  if (self->accepted)
    close(self->accepted);
  self->accepted = 0;
  return fd;
}

void sock_drop(struct sock *self) {
  int fd = sock_release(self->hub, self);
  if (fd >= 0)
    close(fd);
}

/* ---- blocking calls ---- */

double sock_due(const struct sock *self) {
  return self->total < 0 ? -1 : hub_now(self->hub) + self->total;
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

int sock_again(struct sock *self, int events, double due) {
  struct greenlet *g = self->hub->current;
  g->wait.events = (short)events;
  if (self->block >= 0)
    wait_renew(g, sock_limit(self, due));
  return WAIT_AGAIN;
}

int sock_wait(lua_State *L, struct sock *self, int events, double due,
              const struct wait_kind *kind) {
  self->hub->current->wait.events = (short)events;
  return wait_in(L, self->ring, sock_limit(self, due), kind);
}

static int refuse(lua_State *L, const char *verb) {
  return luaL_error(L, "socket already used by another greenlet, which is %s", verb);
}

int sock_read(lua_State *L, struct sock *self, const struct wait_kind *kind) {
  if (self->fd >= 0 && unlikely(io_reading(self->ring)))
    return refuse(L, "reading from it");
  self->read_due = sock_due(self);
  int results = kind->step(L, false);
  if (results != WAIT_AGAIN)
    return results;
  return wait_in(L, self->ring, sock_limit(self, self->read_due), kind);
}

int sock_write(lua_State *L, struct sock *self, const struct wait_kind *kind) {
  if (self->fd >= 0 && unlikely(io_writing(self->ring)))
    return refuse(L, "writing to it");
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
 * @param seconds? number  nil or below 0: no limit; 0: calls do not wait at all
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

/***
 * Socket:setfd(fd): gives it another descriptor; the one before stays open, for its new owner.
 * Whoever waits on the one before gets nil, "closed".
 * @param fd integer  an open socket, or -1 for none
 * Source: LuaSocket.
 */
static int l_setfd(lua_State *L) {
  struct sock *self = check(L);
  lua_Integer fd = luaL_checkinteger(L, 2);
  int domain = AF_UNSPEC;
  socklen_t size = sizeof domain;
  luaL_argcheck(L, fd == -1 || getsockopt((int)fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0, 2,
                "not an open socket");
  sock_release(self->hub, self);
  self->closed = false;
  if (fd >= 0) {
    int on = 1;
    ioctl((int)fd, FIONBIO, &on);
    sock_adopt(L, self, (int)fd, domain);
  }
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
  lua_pushnumber(L, hub_now(self->hub) - self->born);
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
  self->received = (uint64_t)luaL_optnumber(L, 2, (lua_Number)self->received);
  self->sent = (uint64_t)luaL_optnumber(L, 3, (lua_Number)self->sent);
  if (lua_isnumber(L, 4))
    self->born = hub_now(self->hub) - lua_tonumber(L, 4);
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

/* The hub may be gone before the last socket is. */
static int l_gc(lua_State *L) {
  struct sock *self = check(L);
  self->closed = true;
  int fd = sock_release(hub_peek(L), self);
  if (fd >= 0)
    close(fd);
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
                                   {"setfd", l_setfd},
                                   {"getfamily", l_getfamily},
                                   {"getstats", l_getstats},
                                   {"setstats", l_setstats},
                                   {"getsockname", l_getsockname},
                                   {"getpeername", l_getpeername},
                                   {"setoption", sock_setoption},
                                   {"getoption", sock_getoption},
                                   {"close", l_close},
                                   {"__close", l_close},
                                   {"__gc", l_gc},
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
