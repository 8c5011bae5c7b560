/* udp.c: UDP sockets, as LuaSocket has them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

#include "datagram.h"
#include "lookup.h"

static struct sock *check(lua_State *L) { return class_check(L, 1, &udp_kind); }

/* ---- addresses ---- */

/* Of IPv6, where a link may be named too. */
static socklen_t read_inet6(const char *host, in_port_t port, struct sockaddr_in6 *address) {
  const struct addrinfo hints = {
      .ai_family = AF_INET6, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST};
  struct addrinfo *found;
  if (getaddrinfo(host, NULL, &hints, &found) != 0)
    return 0;
  memcpy(address, found->ai_addr, sizeof *address);
  freeaddrinfo(found);
  address->sin6_port = port;
  return sizeof *address;
}

static socklen_t read_inet(const char *host, in_port_t port, struct sockaddr_in *address) {
  address->sin_family = AF_INET;
  address->sin_port = port;
  return inet_pton(AF_INET, host, &address->sin_addr) == 1 ? sizeof *address : 0;
}

/* LuaSocket's sendto takes an address, not a name: a datagram waits for no resolver. */
static socklen_t check_address(lua_State *L, int arg, struct sockaddr_storage *address) {
  int family = ((struct sock *)lua_touserdata(L, 1))->family;
  size_t size;
  const char *host = luaL_checklstring(L, arg, &size);
  lua_Integer port = luaL_checkinteger(L, arg + 1);
  luaL_argcheck(L, port >= 0 && port <= 65535, arg + 1, "port out of range");
  socklen_t length = 0;
  if (strlen(host) == size && family != AF_INET6)
    length = read_inet(host, htons((in_port_t)port), (struct sockaddr_in *)address);
  if (strlen(host) == size && family != AF_INET && !length)
    length = read_inet6(host, htons((in_port_t)port), (struct sockaddr_in6 *)address);
  luaL_argcheck(L, length, arg, "not an address of the socket's family");
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
  bool fresh = self->fd < 0;
  if (!lookup_result(lookup))
    return lookup_push_failure(L, lookup);
  for (const struct addrinfo *at = lookup_result(lookup); at; at = at->ai_next) {
    error = sock_open(L, self, at->ai_family, SOCK_DGRAM);
    if (!error && set(self->fd, at->ai_addr, at->ai_addrlen) == 0) {
      lua_pushinteger(L, 1);
      return 1;
    }
    error = error ? error : errno;
    if (fresh)
      sock_unopen(self);
  }
  return sock_fail(L, error);
}

static int look_up(lua_State *L, struct sock *self, int flags, const struct wait_kind *kind) {
  address_check(L, HOST);
  lua_settop(L, SERVICE);
  const char *host = lua_tostring(L, HOST), *service = lua_tostring(L, SERVICE);
  if (flags & AI_PASSIVE && strcmp(host, "*") == 0)
    host = NULL;
  struct lookup *lookup = lookup_begin(L, host, service, self->family, SOCK_DGRAM, flags);
  if (lookup_done(lookup))
    return kind->step(L, false);
  return wait_in(L, lookup_ring(lookup), sock_lookup_limit(self, sock_due(self)), kind);
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
 * UDP:setpeername(host [, port]),
 * UDP:connect(host [, port]): sets its peer, the only one to send to and receive from.
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

/***
 * socket.udp(): a UDP socket, of IPv4 or IPv6 as its first address is.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp(lua_State *L) { return sock_make(L, &udp_kind, AF_UNSPEC, SOCK_DGRAM); }

/***
 * socket.udp4(): a UDP socket for IPv4.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp4(lua_State *L) { return sock_make(L, &udp_kind, AF_INET, SOCK_DGRAM); }

/***
 * socket.udp6(): a UDP socket for IPv6, and that alone unless its option ipv6-v6only is set to
 * false.
 * @return UDP|nil
 * @return string # or why there is none
 * @return integer # errno
 * Source: LuaSocket.
 */
int socket_udp6(lua_State *L) { return sock_make(L, &udp_kind, AF_INET6, SOCK_DGRAM); }

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
