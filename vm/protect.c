/* protect.c: remembering tracebacks (see protect.h). */
#include "protect.h"

#include <lauxlib.h>

#include "hub.h"

/* Registry: a pair {error, traceback} of the error seen last. */
static const char latest;

static void push_pair(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &latest) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  lua_createtable(L, 2, 0);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &latest);
}

void protect_remember(lua_State *L, int index) {
  index = lua_absindex(L, index);
  push_pair(L);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, 1);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 1);
}

static bool remembered(lua_State *L, int index) {
  index = lua_absindex(L, index);
  push_pair(L);
  lua_rawgeti(L, -1, 1);
  if (lua_isnil(L, -1) || !lua_rawequal(L, -1, index)) {
    lua_pop(L, 2);
    return false;
  }
  lua_pop(L, 1);
  lua_rawgeti(L, -1, 2);
  lua_remove(L, -2);
  return true;
}

void protect_push_traceback(lua_State *L, int index, lua_State *at, int level) {
  if (!remembered(L, index))
    luaL_traceback(L, at, NULL, level);
}

/* An error that passes through several of our calls keeps its first traceback. */
static int keep_traceback(lua_State *L) {
  lua_settop(L, 1);
  if (greenlet_is_exit(L, 1))
    return 1;
  if (!remembered(L, 1)) {
    luaL_traceback(L, L, NULL, 1);
    protect_remember(L, 1);
  }
  lua_settop(L, 1);
  return 1;
}

int protect_call(lua_State *L, int nargs, lua_KContext ctx, lua_KFunction k) {
  int function = lua_gettop(L) - nargs;
  lua_pushcfunction(L, keep_traceback);
  lua_insert(L, function);
  return lua_pcallk(L, nargs, LUA_MULTRET, function, ctx, k);
}
