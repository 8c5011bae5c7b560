/* protect.c: remembering tracebacks (see protect.h). */
#include "protect.h"

#include <lauxlib.h>

#include "hub.h"

/*
 * Registry: what is known of the error seen last.  The traceback holds for an error only
 * where that very error is raised again: by the C function that called protect_rethrow.
 */
static const char latest;

enum { LATEST_ERROR = 1, LATEST_TRACEBACK, LATEST_STATE, LATEST_CALL, LATEST_FUNCTION };

static void push_latest(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &latest) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  lua_createtable(L, LATEST_FUNCTION, 0);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &latest);
}

void protect_remember(lua_State *L, int index) {
  index = lua_absindex(L, index);
  push_latest(L);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, LATEST_ERROR);
  lua_insert(L, -2);
  lua_rawseti(L, -2, LATEST_TRACEBACK);
  lua_pop(L, 1);
}

static bool same_pointer(lua_State *L, int field, const void *pointer) {
  lua_rawgeti(L, -1, field);
  bool same = lua_touserdata(L, -1) == pointer;
  lua_pop(L, 1);
  return same;
}

/* The call at a level of `at`: its frame, and its function if that is in C. */
static bool get_call(lua_State *at, int level, lua_Debug *call, const void **function) {
  if (!lua_getstack(at, level, call) || !lua_checkstack(at, 2))
    return false;
  lua_getinfo(at, "f", call);
  lua_CFunction f = lua_tocfunction(at, -1);
  *function = *(void **)&f;
  lua_pop(at, 1);
  return f != NULL;
}

void protect_rethrow(lua_State *L) {
  lua_Debug call;
  const void *function;
  luaL_checkstack(L, 6, NULL);
  if (get_call(L, 0, &call, &function)) {
    const void *const values[] = {L, call.i_ci, function};
    push_latest(L);
    for (int i = 0; i < 3; i++) {
      lua_pushlightuserdata(L, (void *)values[i]);
      lua_rawseti(L, -2, LATEST_STATE + i);
    }
    lua_pop(L, 1);
  }
  lua_error(L);
  __builtin_unreachable();
}

/* Pushes the traceback if the error at `index` is raised again by the call at that level. */
static bool remembered(lua_State *L, int index, lua_State *at, int level) {
  lua_Debug call;
  const void *function;
  index = lua_absindex(L, index);
  if (!get_call(at, level, &call, &function))
    return false;
  push_latest(L);
  bool same = same_pointer(L, LATEST_STATE, at) && same_pointer(L, LATEST_CALL, call.i_ci) &&
              same_pointer(L, LATEST_FUNCTION, function);
  lua_rawgeti(L, -1, LATEST_ERROR);
  same = same && lua_rawequal(L, -1, index);
  lua_pop(L, 1);
  lua_rawgeti(L, -1, LATEST_TRACEBACK);
  lua_remove(L, -2);
  if (!same)
    lua_pop(L, 1);
  return same;
}

void protect_push_traceback(lua_State *L, int index, lua_State *at, int level) {
  luaL_checkstack(L, 8, NULL);
  if (!remembered(L, index, at, level))
    luaL_traceback(L, at, NULL, level);
}

/* An error that passes through several of our calls keeps its first traceback. */
static int keep_traceback(lua_State *L) {
  lua_settop(L, 1);
  if (greenlet_is_exit(L, 1))
    return 1;
  protect_push_traceback(L, 1, L, 1);
  protect_remember(L, 1);
  lua_settop(L, 1);
  return 1;
}

int protect_call(lua_State *L, int nargs, lua_KContext ctx, lua_KFunction k) {
  int function = lua_gettop(L) - nargs;
  lua_pushcfunction(L, keep_traceback);
  lua_insert(L, function);
  return lua_pcallk(L, nargs, LUA_MULTRET, function, ctx, k);
}
