/* require.c: see require.h. */
#include "require.h"

#include "cstack.h"
#include "hub.h"

/* A module being loaded. */
struct loading {
  struct greenlet *owner;
  struct link waiting; /* ring: greenlets that want it too */
};

static const struct wait_kind require_kind = {.name = "require"};

/* Upvalues of l_require: package, package.loaded, and name -> struct loading. */
enum { UP_PACKAGE = 1, UP_LOADED, UP_LOADING };

/* User values of a struct loading: that table, and the name. */
enum { LOADING_TABLE = 1, LOADING_NAME };

/* Runs as l_require is left, whichever way. */
static int l_done(lua_State *L) {
  struct loading *loading = lua_touserdata(L, 1);
  lua_getiuservalue(L, 1, LOADING_TABLE);
  lua_getiuservalue(L, 1, LOADING_NAME);
  lua_pushnil(L);
  lua_rawset(L, -3);
  wait_notify_all(&loading->waiting);
  cstack_find_cxx();
  return 0;
}

/* Whether `g` would wait for itself: the owner waits for a module whose owner waits ... */
static bool is_circle(const struct loading *loading, const struct greenlet *g) {
  for (;;) {
    const struct greenlet *owner = loading->owner;
    if (owner == g)
      return true;
    if (owner->waiting != &require_kind || !owner->ring)
      return false;
    loading = container_of(owner->ring, struct loading, waiting);
  }
}

/* From now on the module named at 1 is being loaded, until the caller returns. */
static void start_loading(lua_State *L, struct greenlet *owner) {
  struct loading *loading = lua_newuserdatauv(L, sizeof *loading, 2);
  loading->owner = owner;
  list_init(&loading->waiting);
  lua_pushvalue(L, lua_upvalueindex(UP_LOADING));
  lua_setiuservalue(L, -2, LOADING_TABLE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, LOADING_NAME);
  if (luaL_newmetatable(L, "moonlet.loading")) {
    lua_pushcfunction(L, l_done);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -2);
  lua_rawset(L, lua_upvalueindex(UP_LOADING));
  lua_toclose(L, -1);
}

/* Waits while another greenlet loads the module at 1, or begins to load it. */
static void take_charge(lua_State *L, struct greenlet *g) {
  lua_pushvalue(L, 1);
  lua_rawget(L, lua_upvalueindex(UP_LOADING));
  struct loading *loading = lua_touserdata(L, -1);
  if (!loading)
    start_loading(L, g);
  else if (!is_circle(loading, g))
    wait_here(L, &loading->waiting, NO_LIMIT, &require_kind);
}

/* Pushes the loader of the module at 1 and its extra value, from package.searchers. */
static void find_loader(lua_State *L, const char *name) {
  luaL_Buffer message;
  if (lua_getfield(L, lua_upvalueindex(UP_PACKAGE), "searchers") != LUA_TTABLE)
    luaL_error(L, "'package.searchers' must be a table");
  int searchers = lua_gettop(L);
  luaL_buffinit(L, &message);
  for (int i = 1;; i++) {
    if (lua_rawgeti(L, searchers, i) == LUA_TNIL) {
      lua_pop(L, 1);
      luaL_pushresult(&message);
      luaL_error(L, "module '%s' not found:%s", name, lua_tostring(L, -1));
    }
    lua_pushstring(L, name);
    lua_call(L, 1, 2);
    if (lua_isfunction(L, -2))
      return;
    lua_pop(L, 1);
    if (!lua_isstring(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushliteral(L, "\n\t");
    lua_insert(L, -2);
    lua_concat(L, 2);
    luaL_addvalue(&message);
  }
}

static int push_loaded(lua_State *L) {
  lua_pushvalue(L, 1);
  lua_gettable(L, lua_upvalueindex(UP_LOADED));
  return lua_toboolean(L, -1);
}

/* The loader's value, or true, becomes the module.  Returns it and the loader's extra value. */
static int load(lua_State *L, const char *name) {
  find_loader(L, name);
  lua_rotate(L, -2, 1);
  int extra = lua_gettop(L) - 1;
  lua_pushvalue(L, 1);
  lua_pushvalue(L, extra);
  lua_call(L, 2, 1);
  if (!lua_isnil(L, -1)) {
    lua_setfield(L, lua_upvalueindex(UP_LOADED), name);
  } else {
    lua_pop(L, 1);
  }
  if (lua_getfield(L, lua_upvalueindex(UP_LOADED), name) == LUA_TNIL) {
    lua_pushboolean(L, 1);
    lua_copy(L, -1, -2);
    lua_setfield(L, lua_upvalueindex(UP_LOADED), name);
  }
  lua_pushvalue(L, extra);
  return 2;
}

static int l_require(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  if (push_loaded(L))
    return 1;
  struct greenlet *g = hub_running ? hub_running->current : NULL;
  if (g) {
    take_charge(L, g);
    if (push_loaded(L))
      return 1;
  }
  return load(L, name);
}

void require_install(lua_State *L) {
  if (lua_getglobal(L, "package") == LUA_TTABLE && lua_getglobal(L, "require") == LUA_TFUNCTION) {
    lua_pop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_newtable(L);
    lua_pushcclosure(L, l_require, 3);
    lua_setglobal(L, "require");
  } else {
    lua_settop(L, lua_gettop(L) - 1);
  }
}
