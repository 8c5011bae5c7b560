/* guards.c: wrappers around functions of the standard library (see guards.h). */
#include "guards.h"

#include "coroutine.h"
#include "hub.h"
#include "require.h"

static lua_CFunction lua_exit;

static int l_exit(lua_State *L) {
  if (lua_toboolean(L, 2))
    moonlet_close(L);
  return lua_exit(L);
}

static const struct guard os_guards[] = {
    {"os", "exit", &lua_exit, l_exit},
    {NULL, NULL, NULL, NULL},
};

/* Functions that are not plain C (somebody wrapped them before us) are left alone. */
static void install(lua_State *L, struct hub *hub, const struct guard *guard) {
  if (lua_getglobal(L, guard->library) == LUA_TTABLE) {
    lua_getfield(L, -1, guard->name);
    lua_CFunction original = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    bool known = !guard->original || !*guard->original || *guard->original == original;
    if (original && original != guard->guard && known) {
      if (guard->original && !*guard->original)
        *guard->original = original; /* once: other threads may use it */
      lua_rawgeti(L, LUA_REGISTRYINDEX, hub->identified);
      lua_pushcclosure(L, guard->guard, 1);
      lua_setfield(L, -2, guard->name);
    }
  }
  lua_pop(L, 1);
}

static void install_all(lua_State *L, struct hub *hub, const struct guard *guards) {
  for (; guards->name; guards++)
    install(L, hub, guards);
}

void guards_install(lua_State *L, struct hub *hub) {
  install_all(L, hub, coroutine_guards);
  install_all(L, hub, os_guards);
  require_install(L);
}
