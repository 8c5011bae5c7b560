/* address.c: socket addresses as Lua values (see socket.h). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "socket.h"

const char *address_family_name(int family) {
  return family == AF_INET    ? "inet"
         : family == AF_INET6 ? "inet6"
         : family == AF_UNIX  ? "unix"
                              : "unspec";
}

/* An address of a link is of use only with the name of the link. */
static void push_inet6(lua_State *L, const struct sockaddr_in6 *address) {
  char host[INET6_ADDRSTRLEN], link[IF_NAMESIZE];
  inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof host);
  if (address->sin6_scope_id && if_indextoname(address->sin6_scope_id, link))
    lua_pushfstring(L, "%s%%%s", host, link);
  else
    lua_pushstring(L, host);
}

static char *add_decimal(char *to, unsigned number) {
  char digits[10], *from = digits + sizeof digits;
  do
    *--from = (char)('0' + number % 10);
  while (number /= 10);
  while (from < digits + sizeof digits)
    *to++ = *from++;
  return to;
}

static void push_inet(lua_State *L, const struct sockaddr_in *address) {
  char host[INET_ADDRSTRLEN], *to = host;
  uint32_t bytes = ntohl(address->sin_addr.s_addr);
  for (int shift = 24; shift >= 0; shift -= 8) {
    to = add_decimal(to, bytes >> shift & 255);
    *to++ = '.';
  }
  lua_pushlstring(L, host, (size_t)(to - host) - 1);
}

/* A name in the abstract space begins with a NUL and has no end of its own. */
static int push_path(lua_State *L, const struct sockaddr_un *address, socklen_t length) {
  size_t size = length - offsetof(struct sockaddr_un, sun_path);
  if (length <= offsetof(struct sockaddr_un, sun_path))
    lua_pushliteral(L, "");
  else if (address->sun_path[0])
    lua_pushlstring(L, address->sun_path, strnlen(address->sun_path, size));
  else
    lua_pushlstring(L, address->sun_path, size);
  return 1;
}

int address_push(lua_State *L, const struct sockaddr *address, socklen_t length) {
  in_port_t port;
  if (address->sa_family == AF_UNIX)
    return push_path(L, (const struct sockaddr_un *)address, length);
  if (address->sa_family == AF_INET6) {
    push_inet6(L, (const struct sockaddr_in6 *)address);
    port = ((const struct sockaddr_in6 *)address)->sin6_port;
  } else {
    push_inet(L, (const struct sockaddr_in *)address);
    port = ((const struct sockaddr_in *)address)->sin_port;
  }
  lua_pushinteger(L, ntohs(port));
  lua_pushstring(L, address_family_name(address->sa_family));
  return 3;
}

int address_push_text(lua_State *L, const struct address *address) {
  char text[8];
  in_port_t port = address->inet.sin_port; /* where that of IPv6 is, too */
  if (address->any.sa_family == AF_INET6) {
    push_inet6(L, &address->inet6);
  } else if (address->any.sa_family == AF_INET) {
    push_inet(L, &address->inet);
  } else {
    lua_pushliteral(L, "");
    lua_pushliteral(L, "");
    return 2;
  }
  lua_pushlstring(L, text, (size_t)(add_decimal(text, ntohs(port)) - text));
  return 2;
}

/* C would read a name up to its first NUL. */
static void check_text(lua_State *L, int arg, const char *what) {
  size_t length;
  const char *text = luaL_checklstring(L, arg, &length);
  if (strlen(text) != length)
    luaL_argerror(L, arg, lua_pushfstring(L, "%s contains a NUL", what));
}

/* The C library would take a port modulo 65536. */
void address_check(lua_State *L, int arg) {
  check_text(L, arg, "host");
  int is_port;
  lua_Integer port = lua_tointegerx(L, arg + 1, &is_port);
  if (!is_port) {
    check_text(L, arg + 1, "service");
    return;
  }
  luaL_argcheck(L, port >= 0 && port <= 65535, arg + 1, "port out of range");
  lua_pushinteger(L, port);
  lua_tostring(L, -1);
  lua_replace(L, arg + 1);
}

socklen_t address_check_path(lua_State *L, int arg, struct sockaddr_un *address) {
  size_t length;
  const char *path = luaL_checklstring(L, arg, &length);
  luaL_argcheck(L, length <= sizeof address->sun_path - (length && *path), arg, "path too long");
  luaL_argcheck(L, !length || !*path || strlen(path) == length, arg, "path contains a NUL");
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (length && *path));
}
