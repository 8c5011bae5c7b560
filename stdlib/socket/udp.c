/* udp.c: UDP sockets, as LuaSocket has them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

#include "datagram.h"
#include "lookup.h"

static struct sock *check(lua_State *L) { return class_check(L, 1, &udp_kind); }

/* ---- addresses ---- */

/* LuaSocket's sendto takes an address, not a name: a datagram waits for no resolver. */
static socklen_t check_address(lua_State *L, int arg, struct sockaddr_storage *address) {
  struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
  struct addrinfo *found;
  const char *host = luaL_checkstring(L, arg), *port = luaL_checkstring(L, arg + 1);
  hints.ai_family = ((struct sock *)lua_touserdata(L, 1))->family;
  int failure = getaddrinfo(host, port, &hints, &found);
  luaL_argcheck(L, failure != EAI_SERVICE, arg + 1, "not a port");
  luaL_argcheck(L, failure == 0, arg, "not an address of the socket's family");
  socklen_t length = found->ai_addrlen;
  memcpy(address, found->ai_addr, length);
  freeaddrinfo(found);
  return length;
}

/* On the stack of setsockname and setpeername: the socket, host, service, the lookup. */
enum { SELF = 1, HOST, SERVICE, LOOKUP };

static int name(lua_State *L, bool timed_out,
                int (*set)(int fd, const struct sockaddr *address, socklen_t length)) {
  struct sock *self = lua_touserdata(L, SELF);
  struct lookup *lookup = lua_touserdata(L, LOOKUP);
  if (!lookup_done(lookup) && !timed_out)
    return WAIT_AGAIN;
  if (timed_out || self->closed) {
    lookup_abandon(lookup);
    return sock_fail_with(L, self->closed ? "closed" : "timeout");
  }
  int error = 0;
  if (!lookup_result(lookup))
    return lookup_push_failure(L, lookup);
  for (const struct addrinfo *at = lookup_result(lookup); at; at = at->ai_next) {
    error = sock_open(L, self, at->ai_family, SOCK_DGRAM);
    if (!error && set(self->fd, at->ai_addr, at->ai_addrlen) == 0) {
      lua_pushinteger(L, 1);
      return 1;
    }
    error = error ? error : errno;
  }
  return sock_fail(L, error);
}

static int look_up(lua_State *L, struct sock *self, int flags, const struct wait_kind *kind) {
  const char *host = luaL_checkstring(L, HOST), *service = luaL_checkstring(L, SERVICE);
  lua_settop(L, SERVICE);
  if (flags & AI_PASSIVE && strcmp(host, "*") == 0)
    host = NULL;
  struct lookup *lookup = lookup_begin(L, host, service, self->family, SOCK_DGRAM, flags);
  if (lookup_done(lookup))
    return kind->step(L, false);
  return wait_in(L, lookup_ring(lookup), sock_limit(self, sock_due(self)), kind);
}

static int bind_step(lua_State *L, bool timed_out) { return name(L, timed_out, bind); }

static int connect_step(lua_State *L, bool timed_out) {
  int results = name(L, timed_out, connect);
  if (results == 1)
    ((struct sock *)lua_touserdata(L, SELF))->role = SOCK_CLIENT;
  return results;
}

/***
 * UDP:setsockname(host, port), UDP:bind(host, port): gives it an address of its own.
 * @param host string  "*" for all
 * @param port integer|string  0: a free one
 * @return integer|nil # 1
 * @return string # or why not
 * @return integer # errno, or the resolver's number
 * Source: LuaSocket.
 */
static int l_setsockname(lua_State *L) {
  static const struct wait_kind kind = {"udp:setsockname", bind_step, .external = true,
                                        .enter = lookup_enter, .leave = lookup_leave};
  return look_up(L, check(L), AI_PASSIVE, &kind);
}

/* "*" takes the peer away. */
static int disconnect(lua_State *L, struct sock *self) {
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  if (self->fd >= 0 && connect(self->fd, &none, sizeof none) != 0)
    return sock_fail(L, errno);
  self->role = SOCK_MASTER;
  lua_pushinteger(L, 1);
  return 1;
}

/***
 * UDP:setpeername(host [, port]), UDP:connect(host [, port]): sets its peer, the only one to send to and receive from.
 * @param host string  "*": takes it away
 * @param port? integer|string
 * @return integer|nil # 1
 * @return string # or why not
 * @return integer # errno, or the resolver's number
 * Source: LuaSocket.
 */
static int l_setpeername(lua_State *L) {
  static const struct wait_kind kind = {"udp:setpeername", connect_step, .external = true,
                                        .enter = lookup_enter, .leave = lookup_leave};
  struct sock *self = check(L);
  if (strcmp(luaL_checkstring(L, HOST), "*") == 0)
    return disconnect(L, self);
  return look_up(L, self, 0, &kind);
}

/***
 * UDP:sendto(data, host, port): sends a datagram.
 * @param data string
 * @param host string  an address; names are for dns.toip
 * @param port integer|string
 * @return integer|nil # 1
 * @return string # "timeout", "closed" or another reason
 * @return integer # errno
 * @raise an error if another greenlet is sending, or the address is none
 * Source: LuaSocket.
 */
static int l_sendto(lua_State *L) { return datagram_send_to(L, check(L), check_address); }

/* ---- making one ---- */

static int make(lua_State *L, int family) {
  struct sock *self = class_new(L, &udp_kind);
  self->family = (uint8_t)family;
  if (family != AF_UNSPEC) {
    int error = sock_open(L, self, family, SOCK_DGRAM);
    if (error)
      return sock_fail(L, error);
  }
  return 1;
}

/***
 * socket.udp(): a UDP socket, of IPv4 or IPv6 as its first address is.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp(lua_State *L) { return make(L, AF_UNSPEC); }

/***
 * socket.udp4(): a UDP socket for IPv4.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp4(lua_State *L) { return make(L, AF_INET); }

/***
 * socket.udp6(): a UDP socket for IPv6.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp6(lua_State *L) { return make(L, AF_INET6); }

static const luaL_Reg methods[] = {{"setsockname", l_setsockname},
                                   {"bind", l_setsockname},
                                   {"setpeername", l_setpeername},
                                   {"connect", l_setpeername},
                                   {"sendto", l_sendto},
                                   DATAGRAM_METHODS,
                                   {NULL, NULL}};

/***
 * @class moonlet.socket.UDP: Socket
 * A UDP socket.
 */
const struct class_kind udp_kind = {.name = "UDP",
                                    .base = &sock_kind,
                                    .size = sizeof(struct sock),
                                    .init = sock_init,
                                    .methods = methods};
