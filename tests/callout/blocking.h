/*
 * blocking.h: what the files of the module share: results, or nil, a message and errno.
 */
#ifndef TESTS_CALLOUT_BLOCKING_H
#define TESTS_CALLOUT_BLOCKING_H

#include <lauxlib.h>

#define ROOM 4096

#define FUNCTION(name)                                                                             \
  { #name, l_##name }

/* Names, children, files (others.c). */
extern const luaL_Reg other_functions[];

static inline int number(lua_State *L, long long result) {
  if (result < 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushinteger(L, result);
  return 1;
}

static inline int data(lua_State *L, const char *buffer, ssize_t result) {
  if (result < 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushlstring(L, buffer, (size_t)result);
  return 1;
}

static inline int integer(lua_State *L, int arg) { return (int)luaL_checkinteger(L, arg); }

static inline size_t size_at(lua_State *L, int arg) {
  lua_Integer size = luaL_optinteger(L, arg, ROOM);
  luaL_argcheck(L, size >= 0 && size <= ROOM, arg, "too large");
  return (size_t)size;
}

#endif
