/* resolver.c: the choice of a resolver (see resolver.h). */
#include "resolver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hub.h"
#include "query.h"
#include "question.h"

#define VARIABLE "MOONLET_RESOLVER"

/* The choice of one Lua state, a userdata in its registry. */
struct resolving {
  const struct resolver *resolver;
  const struct query_kind *query_kind; /* of the resolver, if it has one */
};

/* Its user value: the servers to ask. */
enum { UV_SERVERS = 1 };

struct resolver {
  const char *name;
  const char *module; /* where its query_kind is; NULL: it needs none */
  void (*start)(struct hub *hub, struct question *question, const struct query_kind *kind,
                const char *servers);
};

/* ---- the resolvers ---- */

/* A thread that cannot be had is an answer too. */
static void start_thread(struct hub *hub, struct question *question, const struct query_kind *kind,
                         const char *servers) {
  int failure = task_start(&question->task, hub, async_threads(hub));
  (void)kind, (void)servers;
  question->threaded = failure == 0;
  if (failure) {
    question->failure = failure == ENOMEM ? EAI_MEMORY : EAI_SYSTEM;
    question->error = failure;
  }
}

static void start_query(struct hub *hub, struct question *question, const struct query_kind *kind,
                        const char *servers) {
  if (!question_answer_at_once(question, true))
    question->query = query_new(hub, question, kind, servers);
}

static void start_here(struct hub *hub, struct question *question, const struct query_kind *kind,
                       const char *servers) {
  (void)hub, (void)kind, (void)servers;
  question_perform(question);
}

static const struct resolver resolvers[] = {{"thread", NULL, start_thread},
                                            {"ares", "moonlet.ares.core", start_query},
                                            {"block", NULL, start_here},
                                            {NULL, NULL, NULL}};

/* ---- choosing ---- */

static const struct resolver *find(lua_State *L, const char *setting, const char *name) {
  for (const struct resolver *resolver = resolvers; resolver->name; resolver++)
    if (strcmp(name, resolver->name) == 0)
      return resolver;
  luaL_error(L, "%s: unknown resolver '%s': there are 'thread', 'ares' and 'block'", setting, name);
  return NULL;
}

/* Pushes a list of names in place of a text with commas between them. */
static void push_names(lua_State *L, const char *text) {
  lua_newtable(L);
  for (int i = 1; *text; i++) {
    text += strspn(text, ", ");
    size_t length = strcspn(text, ", ");
    lua_pushlstring(L, text, length);
    lua_rawseti(L, -2, i);
    text += length;
    text += strspn(text, ", ");
  }
}

/* Loads what the resolver needs; false: pushes a message. */
static bool load(lua_State *L, const struct resolver *resolver, const struct query_kind **kind) {
  *kind = NULL;
  if (!resolver->module)
    return true;
  lua_getglobal(L, "require");
  lua_pushstring(L, resolver->module);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK)
    return false;
  lua_getfield(L, -1, "query_kind");
  *kind = lua_touserdata(L, -1);
  lua_pop(L, 2);
  return true;
}

/* Raises an error unless the list on top of the stack is one of known resolvers. */
static void check_names(lua_State *L, const char *setting) {
  lua_Integer count = luaL_len(L, -1);
  if (count <= 0)
    luaL_error(L, "%s: no resolver is named: there are 'thread', 'ares' and 'block'", setting);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_geti(L, -1, i) != LUA_TSTRING)
      luaL_error(L, "%s: a name is expected, not a %s value", setting, luaL_typename(L, -1));
    find(L, setting, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
}

/* Chooses from the list of names on top of the stack (popped). */
static void choose(lua_State *L, const char *setting, struct resolving *resolving) {
  int list = lua_gettop(L);
  check_names(L, setting);
  for (lua_Integer i = 1; lua_geti(L, list, i) != LUA_TNIL; i++) {
    const struct query_kind *kind;
    const struct resolver *resolver = find(L, setting, lua_tostring(L, -1));
    if (load(L, resolver, &kind)) {
      *resolving = (struct resolving){.resolver = resolver, .query_kind = kind};
      lua_settop(L, list - 1);
      return;
    }
    lua_replace(L, list + 1);
    lua_settop(L, list + 1);
  }
  lua_pop(L, 1);
  luaL_error(L, "%s: %s", setting, luaL_tolstring(L, list + 1, NULL));
}

/* Pushes the state's choice, made by the environment at first. */
static struct resolving *push_choice(lua_State *L) {
  static const char key;
  luaL_checkstack(L, 10, NULL);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TUSERDATA)
    return lua_touserdata(L, -1);
  lua_pop(L, 1);
  struct resolving *resolving = lua_newuserdatauv(L, sizeof *resolving, 1);
  const char *names = getenv(VARIABLE);
  push_names(L, names && *names ? names : "thread");
  choose(L, VARIABLE, resolving);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  return resolving;
}

/* ---- for its users ---- */

void resolver_start(lua_State *L, struct question *question) {
  const struct resolving *choice = push_choice(L);
  lua_getiuservalue(L, -1, UV_SERVERS);
  choice->resolver->start(hub_of(L), question, choice->query_kind, lua_tostring(L, -1));
  lua_pop(L, 2);
}

void resolver_push(lua_State *L) {
  const struct resolving *choice = push_choice(L);
  lua_pushstring(L, choice->resolver->name);
  lua_remove(L, -2);
}

void resolver_set(lua_State *L, int index) {
  index = lua_absindex(L, index);
  struct resolving *choice = push_choice(L);
  if (lua_type(L, index) == LUA_TSTRING)
    push_names(L, lua_tostring(L, index));
  else if (lua_istable(L, index))
    lua_pushvalue(L, index);
  else
    luaL_error(L, "dns.resolver: a name or a list of names is expected, not a %s value",
               luaL_typename(L, index));
  choose(L, "dns.resolver", choice);
  lua_pop(L, 1);
}

void resolver_push_servers(lua_State *L) {
  push_choice(L);
  lua_getiuservalue(L, -1, UV_SERVERS);
  lua_remove(L, -2);
}

void resolver_set_servers(lua_State *L, int index) {
  index = lua_absindex(L, index);
  const struct resolving *choice = push_choice(L);
  const char *servers = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
  if (!servers && !lua_isnil(L, index))
    luaL_error(L, "dns.servers: a string is expected, not a %s value", luaL_typename(L, index));
  if (servers && !choice->query_kind)
    luaL_error(L, "dns.servers: the resolver '%s' asks the system's; choose 'ares' to set others",
               choice->resolver->name);
  if (servers && !choice->query_kind->are_servers(servers))
    luaL_error(L, "dns.servers: no list of addresses: '%s'", servers);
  lua_pushvalue(L, index);
  lua_setiuservalue(L, -2, UV_SERVERS);
  lua_pop(L, 1);
}
