/* options.c: setoption and getoption, by LuaSocket's names (see socket.h). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "stream.h"

enum option_type {
  TYPE_BOOL,
  TYPE_INT,
  TYPE_ERROR,      /* pending error: its message or nil; read only */
  TYPE_LINGER,     /* {on=, timeout=} */
  TYPE_STRING,     /* a name */
  TYPE_IP,         /* an IPv4 address */
  TYPE_MEMBER,     /* {multiaddr=, interface=}; write only */
  TYPE_MEMBER6,    /* {multiaddr=, interface= (number)}; write only */
  TYPE_LINE_LIMIT, /* ours, no option of the kernel's */
};

struct option {
  const char *name;
  enum option_type type;
  int level, number;
};

static const struct option options[] = {
    {"keepalive", TYPE_BOOL, SOL_SOCKET, SO_KEEPALIVE},
    {"reuseaddr", TYPE_BOOL, SOL_SOCKET, SO_REUSEADDR},
    {"reuseport", TYPE_BOOL, SOL_SOCKET, SO_REUSEPORT},
    {"dontroute", TYPE_BOOL, SOL_SOCKET, SO_DONTROUTE},
    {"broadcast", TYPE_BOOL, SOL_SOCKET, SO_BROADCAST},
    {"linger", TYPE_LINGER, SOL_SOCKET, SO_LINGER},
    {"error", TYPE_ERROR, SOL_SOCKET, SO_ERROR},
    {"recv-buffer-size", TYPE_INT, SOL_SOCKET, SO_RCVBUF},
    {"send-buffer-size", TYPE_INT, SOL_SOCKET, SO_SNDBUF},
    {"bindtodevice", TYPE_STRING, SOL_SOCKET, SO_BINDTODEVICE},
    {"tcp-nodelay", TYPE_BOOL, IPPROTO_TCP, TCP_NODELAY},
    {"tcp-keepidle", TYPE_INT, IPPROTO_TCP, TCP_KEEPIDLE},
    {"tcp-keepcnt", TYPE_INT, IPPROTO_TCP, TCP_KEEPCNT},
    {"tcp-keepintvl", TYPE_INT, IPPROTO_TCP, TCP_KEEPINTVL},
    {"tcp-defer-accept", TYPE_INT, IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {"tcp-fastopen", TYPE_INT, IPPROTO_TCP, TCP_FASTOPEN},
    {"tcp-fastopen-connect", TYPE_BOOL, IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {"tcp-user-timeout", TYPE_INT, IPPROTO_TCP, TCP_USER_TIMEOUT},
    {"ipv6-v6only", TYPE_BOOL, IPPROTO_IPV6, IPV6_V6ONLY},
    {"ipv6-unicast-hops", TYPE_INT, IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {"ipv6-multicast-hops", TYPE_INT, IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {"ipv6-multicast-loop", TYPE_BOOL, IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {"ipv6-add-membership", TYPE_MEMBER6, IPPROTO_IPV6, IPV6_JOIN_GROUP},
    {"ipv6-drop-membership", TYPE_MEMBER6, IPPROTO_IPV6, IPV6_LEAVE_GROUP},
    {"ip-multicast-if", TYPE_IP, IPPROTO_IP, IP_MULTICAST_IF},
    {"ip-multicast-ttl", TYPE_INT, IPPROTO_IP, IP_MULTICAST_TTL},
    {"ip-multicast-loop", TYPE_BOOL, IPPROTO_IP, IP_MULTICAST_LOOP},
    {"ip-add-membership", TYPE_MEMBER, IPPROTO_IP, IP_ADD_MEMBERSHIP},
    {"ip-drop-membership", TYPE_MEMBER, IPPROTO_IP, IP_DROP_MEMBERSHIP},
    {"line-limit", TYPE_LINE_LIMIT, 0, 0}};

static const struct option *check_option(lua_State *L) {
  const char *name = luaL_checkstring(L, 2);
  for (size_t i = 0; i < sizeof options / sizeof *options; i++)
    if (strcmp(options[i].name, name) == 0)
      return &options[i];
  luaL_argerror(L, 2, lua_pushfstring(L, "unsupported option '%s'", name));
  return NULL;
}

/* ---- values from Lua ---- */

union value {
  int integer;
  struct linger linger;
  struct in_addr address;
  struct ip_mreq member;
  struct ipv6_mreq member6;
};

/* The number at `index` as the kernel takes it. */
static int check_int(lua_State *L, int index) {
  int is;
  lua_Integer value = lua_tointegerx(L, index, &is);
  luaL_argcheck(L, is && value >= INT_MIN && value <= INT_MAX, 3, "no integer, or out of range");
  return (int)value;
}

/* A field of the table at 3 on top of the stack. */
static void check_field(lua_State *L, const char *name, int type) {
  luaL_checktype(L, 3, LUA_TTABLE);
  if (lua_getfield(L, 3, name) != type)
    luaL_argerror(L, 3,
                  lua_pushfstring(L, "%s expected in field '%s'", lua_typename(L, type), name));
}

static void check_address(lua_State *L, int family, const char *text, void *address) {
  if (!text || inet_pton(family, text, address) != 1)
    luaL_argerror(L, 3, "not an address");
}

static void check_linger(lua_State *L, struct linger *linger) {
  check_field(L, "on", LUA_TBOOLEAN);
  check_field(L, "timeout", LUA_TNUMBER);
  linger->l_onoff = lua_toboolean(L, -2);
  linger->l_linger = check_int(L, -1);
}

static void check_member(lua_State *L, struct ip_mreq *member) {
  check_field(L, "multiaddr", LUA_TSTRING);
  check_field(L, "interface", LUA_TSTRING);
  const char *interface = lua_tostring(L, -1);
  check_address(L, AF_INET, lua_tostring(L, -2), &member->imr_multiaddr);
  check_address(L, AF_INET, strcmp(interface, "*") == 0 ? "0.0.0.0" : interface,
                &member->imr_interface);
}

static void check_member6(lua_State *L, struct ipv6_mreq *member) {
  check_field(L, "multiaddr", LUA_TSTRING);
  check_address(L, AF_INET6, lua_tostring(L, -1), &member->ipv6mr_multiaddr);
  luaL_checktype(L, 3, LUA_TTABLE);
  if (lua_getfield(L, 3, "interface") != LUA_TNIL)
    check_field(L, "interface", LUA_TNUMBER);
  member->ipv6mr_interface = lua_isnil(L, -1) ? 0 : (unsigned)check_int(L, -1);
}

/* Reads argument 3; returns the value's size. */
static socklen_t check_value(lua_State *L, const struct option *option, union value *value) {
  switch (option->type) {
  case TYPE_BOOL:
    luaL_checktype(L, 3, LUA_TBOOLEAN);
    value->integer = lua_toboolean(L, 3);
    return sizeof value->integer;
  case TYPE_INT:
    luaL_checknumber(L, 3);
    value->integer = check_int(L, 3);
    return sizeof value->integer;
  case TYPE_LINGER:
    check_linger(L, &value->linger);
    return sizeof value->linger;
  case TYPE_IP:
    check_address(L, AF_INET, luaL_checkstring(L, 3), &value->address);
    return sizeof value->address;
  case TYPE_MEMBER:
    check_member(L, &value->member);
    return sizeof value->member;
  case TYPE_MEMBER6:
    check_member6(L, &value->member6);
    return sizeof value->member6;
  default:
    return (socklen_t)luaL_argerror(L, 2, "option cannot be set");
  }
}

/* A socket whose family is not chosen yet gets a descriptor for the option to apply to. */
static int need_descriptor(lua_State *L, struct sock *self, const struct option *option) {
  bool datagram = self->object.kind == &udp_kind || self->object.kind == &unix_dgram_kind;
  int family = self->family != AF_UNSPEC       ? self->family
               : option->level == IPPROTO_IPV6 ? AF_INET6
                                               : AF_INET;
  return sock_open(L, self, family, datagram ? SOCK_DGRAM : SOCK_STREAM);
}

static int set_line_limit(lua_State *L) {
  struct stream *self = stream_check(L);
  lua_Integer limit = luaL_checkinteger(L, 3);
  luaL_argcheck(L, limit >= 0, 3, "must not be negative");
  self->line_limit = (size_t)limit;
  lua_pushinteger(L, 1);
  return 1;
}

/***
 * Socket:setoption(name, value): sets an option of the kernel's, or line-limit.
 * Booleans: keepalive, reuseaddr, reuseport, dontroute, broadcast, tcp-nodelay,
 * tcp-fastopen-connect, ipv6-v6only, ip-multicast-loop, ipv6-multicast-loop.  Integers:
 * recv-buffer-size, send-buffer-size, tcp-keepidle, tcp-keepcnt, tcp-keepintvl,
 * tcp-defer-accept, tcp-fastopen, tcp-user-timeout, ipv6-unicast-hops, ipv6-multicast-hops,
 * ip-multicast-ttl.  Others: linger {on=, timeout=}, bindtodevice, ip-multicast-if,
 * ip-add-membership and ip-drop-membership {multiaddr=, interface=}, the same two with ipv6.
 * line-limit, of streams: most bytes that receive collects for "*l" or "*a" before it returns
 * nil, "too long" and so many of them; 0: any number.
 * With linger and a timeout above 0, the kernel has close hold up the whole program so long.
 * @param name string
 * @param value any
 * @return integer|nil # 1
 * @return string # or why it cannot be set
 * @return integer # errno
 * Source: LuaSocket.
 */
int sock_setoption(lua_State *L) {
  struct sock *self = class_check(L, 1, &sock_kind);
  const struct option *option = check_option(L);
  union value value;
  luaL_checkany(L, 3);
  if (option->type == TYPE_LINE_LIMIT)
    return set_line_limit(L);
  if (self->closed)
    return sock_fail_with(L, "closed");
  const void *bytes = &value;
  size_t size;
  if (option->type == TYPE_STRING)
    bytes = luaL_checklstring(L, 3, &size);
  else
    size = check_value(L, option, &value);
  int error = need_descriptor(L, self, option);
  if (error || setsockopt(self->fd, option->level, option->number, bytes, (socklen_t)size) != 0)
    return sock_fail(L, error ? error : errno);
  lua_pushinteger(L, 1);
  return 1;
}

/* ---- values to Lua ---- */

static int push_linger(lua_State *L, const struct linger *linger) {
  lua_createtable(L, 0, 2);
  lua_pushboolean(L, linger->l_onoff);
  lua_setfield(L, -2, "on");
  lua_pushinteger(L, linger->l_linger);
  lua_setfield(L, -2, "timeout");
  return 1;
}

static int push_value(lua_State *L, const struct option *option, const union value *value) {
  char text[INET_ADDRSTRLEN];
  switch (option->type) {
  case TYPE_BOOL:
    lua_pushboolean(L, value->integer);
    return 1;
  case TYPE_INT:
    lua_pushinteger(L, value->integer);
    return 1;
  case TYPE_ERROR:
    if (value->integer)
      lua_pushstring(L, sock_message(value->integer));
    else
      lua_pushnil(L);
    return 1;
  case TYPE_LINGER:
    return push_linger(L, &value->linger);
  case TYPE_IP:
    lua_pushstring(L, inet_ntop(AF_INET, &value->address, text, sizeof text));
    return 1;
  default:
    return luaL_argerror(L, 2, "option cannot be read");
  }
}

/***
 * Socket:getoption(name): an option as setoption takes it; also "error", the pending one.
 * @param name string
 * @return any
 * @return string # with nil: why it cannot be read
 * @return integer # errno
 * Source: LuaSocket.
 */
int sock_getoption(lua_State *L) {
  struct sock *self = class_check(L, 1, &sock_kind);
  const struct option *option = check_option(L);
  union value value = {0};
  socklen_t size = sizeof value;
  if (option->type == TYPE_LINE_LIMIT) {
    lua_pushinteger(L, (lua_Integer)stream_check(L)->line_limit);
    return 1;
  }
  if (self->closed)
    return sock_fail_with(L, "closed");
  char name[IF_NAMESIZE];
  void *bytes = &value;
  if (option->type == TYPE_STRING) {
    bytes = name;
    size = sizeof name;
  }
  int error = need_descriptor(L, self, option);
  if (error || getsockopt(self->fd, option->level, option->number, bytes, &size) != 0)
    return sock_fail(L, error ? error : errno);
  if (option->type != TYPE_STRING)
    return push_value(L, option, &value);
  lua_pushlstring(L, name, strnlen(name, size));
  return 1;
}
