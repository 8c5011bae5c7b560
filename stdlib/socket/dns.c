/* dns.c: moonlet.socket.dns, names and addresses. */
/***
 * @module moonlet.socket.dns
 * Names and addresses: LuaSocket's dns table, whose functions block only their greenlet.
 * A lookup that fails returns nil, a message in LuaSocket's words, and a code that is one of the
 * constants EAI_*.  Addresses, and names that cannot be, are answered without waiting; an empty
 * name, or one of more than 255 bytes, is not known.
 * @field resolver string  who looks names up, "thread", "ares" or "block"; may be set to one of
 *   them or to a list, {"ares", "thread"} or "ares,thread", of which the first that loads is taken;
 *   the environment variable MOONLET_RESOLVER is such a list, and "thread" what there is without.
 *   "thread": the C library, in at most ten threads; more lookups queue.  "ares": the library
 *   c-ares, in the loop; an error if Moonlet was built without it.  "block": the C library, while
 *   all greenlets stand still.  A lookup goes on with the resolver that it began with
 * @field servers? string  whom "ares" asks, "address[:port]" with commas between; nil: the system's
 * @field EAI_AGAIN integer  a temporary failure: no server has answered
 * @field EAI_CANCELED integer  the lookup was given up
 * @field EAI_FAIL integer  a failure for good
 * @field EAI_FAMILY integer  an address of a kind that is not supported
 * @field EAI_MEMORY integer  out of memory
 * @field EAI_NODATA integer  the name is known, but has no address
 * @field EAI_NONAME integer  the name is not known
 * @field EAI_OVERFLOW integer  a name is too long
 * @field EAI_SERVICE integer  the service is not known
 * @field EAI_SYSTEM integer  an error of the system, which the message says
 * Differs: resolvers | thread, dnspython, ares, block | thread, ares, block
 * Differs: a bad resolver | ImportError at the first lookup | an error where it is set
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"
#include "lookup.h"
#include "resolver.h"

MOONLET_API int luaopen_moonlet_socket_dns(lua_State *L);

/* The name at `arg`, which may be absent if `optional`. */
static const char *check_name(lua_State *L, int arg, bool optional) {
  size_t length = 0;
  const char *name =
      optional ? luaL_optlstring(L, arg, NULL, &length) : luaL_checklstring(L, arg, &length);
  luaL_argcheck(L, !name || strlen(name) == length, arg, "string contains zeros");
  return name;
}

static int push_timeout(lua_State *L) {
  lua_pushnil(L);
  lua_pushliteral(L, "timeout");
  return 2;
}

/* Not done when it should be: nobody will wait for it any more. */
static int unfinished(lua_State *L, struct lookup *lookup, bool timed_out) {
  if (!timed_out)
    return WAIT_AGAIN;
  lookup_abandon(lookup);
  return push_timeout(L);
}

/* Finishes with the lookup, now or when it is done. */
static int await(lua_State *L, struct lookup *lookup, double limit, const struct wait_kind *kind) {
  return lookup_done(lookup) ? kind->step(L, false) : wait_in(L, lookup_ring(lookup), limit, kind);
}

/* ---- getaddrinfo ---- */

/* Pushes the entry's address as text. */
static void push_address(lua_State *L, const struct addrinfo *info) {
  char text[NI_MAXHOST];
  if (getnameinfo(info->ai_addr, info->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST))
    *text = 0;
  lua_pushstring(L, text);
}

static int getaddrinfo_step(lua_State *L, bool timed_out) {
  struct lookup *lookup = lua_touserdata(L, 3);
  if (!lookup_done(lookup))
    return unfinished(L, lookup, timed_out);
  const struct addrinfo *info = lookup_result(lookup);
  if (!info)
    return lookup_push_failure(L, lookup);
  lua_newtable(L);
  for (lua_Integer i = 1; info; i++, info = info->ai_next) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, info->ai_family == AF_INET6 ? "inet6" : "inet");
    lua_setfield(L, -2, "family");
    push_address(L, info);
    lua_setfield(L, -2, "addr");
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/***
 * socket.dns.getaddrinfo(host [, timeout]): the addresses of a host.
 * @param host string  a name, or an address
 * @param timeout? number|Timeout  seconds
 * @return table[]|nil # each {family = "inet"|"inet6", addr = text}; nil: failed
 * @return string # after nil: "timeout", or what is wrong
 * @return integer # after a failure: its code
 * Source: LuaSocket's socket.dns.getaddrinfo.
 * Differs: no timeout, no code | timeout, code
 */
static int l_getaddrinfo(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.getaddrinfo",
                                        .step = getaddrinfo_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const char *host = check_name(L, 1, false);
  double limit = wait_limit(L, 2);
  lua_settop(L, 2);
  return await(L, lookup_begin(L, host, NULL, AF_UNSPEC, SOCK_STREAM, 0), limit, &kind);
}

/* ---- toip, tohostname, getfqdn ---- */

/* Begins to look up the host's entry, by its address if `host` is one; pushes the lookup. */
static struct lookup *begin_entry(lua_State *L, const char *host) {
  struct in_addr address;
  bool numeric = inet_aton(host, &address);
  struct lookup *lookup = lookup_new(L, ASK_HOST, numeric ? NULL : host, NULL);
  if (numeric)
    question_set_address(lookup_question(lookup),
                         &(struct sockaddr_in){.sin_family = AF_INET, .sin_addr = address},
                         sizeof(struct sockaddr_in));
  lookup_start(L, lookup);
  return lookup;
}

/* Pushes a list of the other names. */
static void push_aliases(lua_State *L, const struct hostent *entry) {
  lua_Integer length = 0;
  lua_newtable(L);
  for (char **alias = entry->h_aliases; alias && *alias; alias++)
    if (strcmp(*alias, entry->h_name) != 0) {
      lua_pushstring(L, *alias);
      lua_rawseti(L, -2, ++length);
    }
}

/* Pushes a table with the fields name, alias and ip. */
static void push_entry(lua_State *L, const struct hostent *entry) {
  char text[INET_ADDRSTRLEN];
  lua_createtable(L, 0, 3);
  lua_pushstring(L, entry->h_name);
  lua_setfield(L, -2, "name");
  push_aliases(L, entry);
  lua_setfield(L, -2, "alias");
  lua_newtable(L);
  for (int i = 0; entry->h_addr_list[i]; i++) {
    lua_pushstring(L, inet_ntop(AF_INET, entry->h_addr_list[i], text, sizeof text));
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "ip");
}

/* The entry that the lookup at 3 has found; NULL: `*results` have been pushed instead. */
static const struct hostent *found_entry(lua_State *L, bool timed_out, int *results) {
  struct lookup *lookup = lua_touserdata(L, 3);
  const struct question *question = lookup_question(lookup);
  if (!lookup_done(lookup))
    *results = unfinished(L, lookup, timed_out);
  else if (!question || question->failure)
    *results = lookup_push_failure(L, lookup);
  else
    return &question->entry;
  return NULL;
}

static int toip_step(lua_State *L, bool timed_out) {
  int results = 0;
  const struct hostent *entry = found_entry(L, timed_out, &results);
  if (!entry)
    return results;
  char text[INET_ADDRSTRLEN];
  lua_pushstring(L, inet_ntop(AF_INET, entry->h_addr_list[0], text, sizeof text));
  push_entry(L, entry);
  return 2;
}

/***
 * socket.dns.toip(host [, timeout]): the first IPv4 address of a host.
 * @param host string  a name, or an address
 * @param timeout? number|Timeout  seconds
 * @return string|nil # the address; nil: failed
 * @return table|string # {name =, alias = {...}, ip = {...}}; or "timeout", or what is wrong
 * @return integer # after a failure: its code
 * Source: LuaSocket's socket.dns.toip.
 * Differs: no timeout, no code | timeout, code
 */
static int l_toip(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.toip",
                                        .step = toip_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const char *host = check_name(L, 1, false);
  double limit = wait_limit(L, 2);
  lua_settop(L, 2);
  return await(L, begin_entry(L, host), limit, &kind);
}

static int tohostname_step(lua_State *L, bool timed_out) {
  int results = 0;
  const struct hostent *entry = found_entry(L, timed_out, &results);
  if (!entry)
    return results;
  lua_pushstring(L, entry->h_name);
  push_entry(L, entry);
  return 2;
}

/***
 * socket.dns.tohostname(address [, timeout]): the canonical name of a host.
 * @param address string  an address, or a name
 * @param timeout? number|Timeout  seconds
 * @return string|nil # the name; nil: failed
 * @return table|string # {name =, alias = {...}, ip = {...}}; or "timeout", or what is wrong
 * @return integer # after a failure: its code
 * Source: LuaSocket's socket.dns.tohostname.
 * Differs: no timeout, no code | timeout, code
 */
static int l_tohostname(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.tohostname",
                                        .step = tohostname_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const char *host = check_name(L, 1, false);
  double limit = wait_limit(L, 2);
  lua_settop(L, 2);
  return await(L, begin_entry(L, host), limit, &kind);
}

/* Pushes the name of this machine; false: errno says why not. */
static bool push_hostname(lua_State *L) {
  char name[QUESTION_NAME_MAX + 2];
  if (gethostname(name, sizeof name) != 0)
    return false;
  name[sizeof name - 1] = 0;
  lua_pushstring(L, name);
  return true;
}

/* The first name with a dot in it, else the canonical one. */
static const char *qualified(const struct hostent *entry) {
  if (!strchr(entry->h_name, '.'))
    for (char **alias = entry->h_aliases; alias && *alias; alias++)
      if (strchr(*alias, '.'))
        return *alias;
  return entry->h_name;
}

static int getfqdn_step(lua_State *L, bool timed_out) {
  int results = 0;
  const struct hostent *entry = found_entry(L, timed_out, &results);
  if (entry)
    lua_pushstring(L, qualified(entry));
  else if (results == 3)
    lua_pushvalue(L, 1);
  else
    return results;
  return 1;
}

/***
 * socket.dns.getfqdn([host [, timeout]]): the full name of a host: the first one with a dot in it.
 * @param host? string  a name or an address; without one, "" or "0.0.0.0": this machine
 * @param timeout? number|Timeout  seconds
 * @return string|nil # the name; what was asked for, if nothing is known about it; nil: timed out
 * @return string # after nil: "timeout"
 * Source: Python's socket.getfqdn, as gevent has it.
 * Differs: looks up the address, and by that the names | takes the names of the one lookup
 */
static int l_getfqdn(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.getfqdn",
                                        .step = getfqdn_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const char *host = check_name(L, 1, true);
  double limit = wait_limit(L, 2);
  lua_settop(L, 2);
  if (!host || !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0) {
    if (!push_hostname(L))
      return luaL_fileresult(L, 0, NULL);
    lua_replace(L, 1);
  }
  return await(L, begin_entry(L, lua_tostring(L, 1)), limit, &kind);
}

/* ---- getnameinfo ---- */

/* The stack: host, service and timeout, then: */
enum { ADDRESSES = 4, NAMES, DEADLINE, NAME };

static int next_name(lua_State *L);

/* The service's name comes with the last host's. */
static int push_names(lua_State *L) {
  lua_pushvalue(L, NAMES);
  if (lua_isnil(L, 2))
    return 1;
  lua_pushstring(L, lookup_question(lua_touserdata(L, NAME))->port);
  return 2;
}

static int name_step(lua_State *L, bool timed_out) {
  struct lookup *lookup = lua_touserdata(L, NAME);
  if (!lookup_done(lookup))
    return unfinished(L, lookup, timed_out);
  const struct question *question = lookup_question(lookup);
  if (!question || question->failure)
    return lookup_push_failure(L, lookup);
  if (lua_isnil(L, 1))
    return push_names(L);
  lua_pushstring(L, question->name);
  lua_rawseti(L, NAMES, (lua_Integer)lua_rawlen(L, NAMES) + 1);
  return next_name(L);
}

/* Looks up the name of the first address that has none yet. */
static int next_name(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.getnameinfo",
                                        .step = name_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const struct addrinfo *info = lookup_result(lua_touserdata(L, ADDRESSES));
  for (size_t known = lua_rawlen(L, NAMES); info && known > 0; known--)
    info = info->ai_next;
  if (!info)
    return push_names(L);
  lua_settop(L, NAME - 1);
  struct lookup *lookup = lookup_new(L, ASK_NAME, NULL, NULL);
  struct question *question = lookup_question(lookup);
  question_set_address(question, info->ai_addr, info->ai_addrlen);
  question->hints.ai_flags = lua_isnil(L, 1) ? NI_NUMERICHOST : 0;
  lookup_start(L, lookup);
  double limit = lua_tonumber(L, DEADLINE) - hub_now(hub_of(L));
  return await(L, lookup, limit, &kind);
}

static int addresses_step(lua_State *L, bool timed_out) {
  struct lookup *lookup = lua_touserdata(L, ADDRESSES);
  if (!lookup_done(lookup))
    return unfinished(L, lookup, timed_out);
  return lookup_result(lookup) ? next_name(L) : lookup_push_failure(L, lookup);
}

/***
 * socket.dns.getnameinfo(host [, service [, timeout]]): names of addresses and service.
 * An address without a name stands for itself.
 * @param host string|nil  a name or an address
 * @param service? string|number  a name or a port of TCP; needed if there is no host
 * @param timeout? number|Timeout  seconds, for all
 * @return string[]|nil # the names; nil: failed
 * @return string # the service's name; after nil "timeout", or what is wrong
 * @return integer # after a failure: its code
 * Source: LuaSocket's socket.dns.getnameinfo.
 * Differs: no timeout, no code | timeout, code
 */
static int l_getnameinfo(lua_State *L) {
  static const struct wait_kind kind = {.name = "dns.getnameinfo",
                                        .step = addresses_step,
                                        .external = true,
                                        .enter = lookup_enter,
                                        .leave = lookup_leave};
  const char *host = check_name(L, 1, true), *service = check_name(L, 2, true);
  double limit = wait_limit(L, 3);
  if (!host && !service)
    return luaL_error(L, "host and serv cannot be both nil");
  lua_settop(L, 3);
  struct lookup *lookup = lookup_begin(L, host, service, AF_UNSPEC, SOCK_STREAM, 0);
  lua_newtable(L);
  lua_pushnumber(L, hub_now(hub_of(L)) + limit);
  return await(L, lookup, limit, &kind);
}

/* ---- the module ---- */

/***
 * socket.dns.gethostname(): the name of this machine.
 * @return string
 * Source: LuaSocket's socket.dns.gethostname.
 */
static int l_gethostname(lua_State *L) {
  return push_hostname(L) ? 1 : luaL_fileresult(L, 0, NULL);
}

static const luaL_Reg functions[] = {{"getaddrinfo", l_getaddrinfo},
                                     {"getfqdn", l_getfqdn},
                                     {"gethostname", l_gethostname},
                                     {"getnameinfo", l_getnameinfo},
                                     {"tohostname", l_tohostname},
                                     {"toip", l_toip},
                                     {NULL, NULL}};

static const struct setting {
  const char *name;
  void (*push)(lua_State *L);
  void (*set)(lua_State *L, int index);
} settings[] = {{"resolver", resolver_push, resolver_set},
                {"servers", resolver_push_servers, resolver_set_servers},
                {NULL, NULL, NULL}};

/* The setting named at 2, or NULL. */
static const struct setting *find_setting(lua_State *L) {
  const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  for (const struct setting *setting = settings; setting->name; setting++)
    if (strcmp(name, setting->name) == 0)
      return setting;
  return NULL;
}

static int l_index(lua_State *L) {
  const struct setting *setting = find_setting(L);
  if (!setting)
    return 0;
  setting->push(L);
  return 1;
}

static int l_newindex(lua_State *L) {
  const struct setting *setting = find_setting(L);
  lua_settop(L, 3);
  if (setting)
    setting->set(L, 3);
  else
    lua_rawset(L, 1);
  return 0;
}

static const luaL_Reg metamethods[] = {
    {"__index", l_index}, {"__newindex", l_newindex}, {NULL, NULL}};

static const struct {
  const char *name;
  int code;
} constants[] = {{"EAI_AGAIN", EAI_AGAIN},     {"EAI_CANCELED", EAI_CANCELED},
                 {"EAI_FAIL", EAI_FAIL},       {"EAI_FAMILY", EAI_FAMILY},
                 {"EAI_MEMORY", EAI_MEMORY},   {"EAI_NODATA", EAI_NODATA},
                 {"EAI_NONAME", EAI_NONAME},   {"EAI_OVERFLOW", EAI_OVERFLOW},
                 {"EAI_SERVICE", EAI_SERVICE}, {"EAI_SYSTEM", EAI_SYSTEM}};

int luaopen_moonlet_socket_dns(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  resolver_push(L); /* chooses one now: the environment may name one that is none */
  lua_pop(L, 2);
  luaL_newlib(L, functions);
  for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
    lua_pushinteger(L, constants[i].code);
    lua_setfield(L, -2, constants[i].name);
  }
  luaL_newlib(L, metamethods);
  lua_setmetatable(L, -2);
  return 1;
}
