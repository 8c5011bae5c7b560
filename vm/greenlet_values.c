/* greenlet_values.c: what a Greenlet keeps: fields of few, its arguments, its outcome. */
#include "greenlet.h"

#include "nursery.h"

const char greenlet_key_name, greenlet_key_traceback, greenlet_key_links;

/* ---- fields that few have ---- */

int greenlet_get_private(lua_State *L, int index, const char *key) {
  if (lua_getiuservalue(L, index, UV_FIELDS) != LUA_TTABLE)
    return LUA_TNIL; /* the nil is on the stack */
  int type = lua_rawgetp(L, -1, key);
  lua_remove(L, -2);
  return type;
}

void greenlet_set_private(lua_State *L, int index, const char *key) {
  index = lua_absindex(L, index);
  if (lua_getiuservalue(L, index, UV_FIELDS) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, index, UV_FIELDS);
  }
  lua_insert(L, -2);
  lua_rawsetp(L, -2, key);
  lua_pop(L, 1);
}

/* ---- values under one name ---- */

void greenlet_store(lua_State *L, int index, int count) {
  index = lua_absindex(L, index);
  if (count == 0) {
    lua_pushnil(L);
  } else if (count > 1) {
    lua_createtable(L, count, 1);
    lua_insert(L, -count - 1);
    int table = lua_gettop(L) - count;
    for (int i = count; i >= 1; i--)
      lua_rawseti(L, table, i);
    lua_pushinteger(L, count);
    lua_setfield(L, table, "n");
  }
  lua_setiuservalue(L, index, UV_OUTCOME);
}

int greenlet_push_stored(lua_State *L, int index, int count) {
  if (count == 0)
    return 0;
  luaL_checkstack(L, count + 1, "too many values");
  lua_getiuservalue(L, index, UV_OUTCOME);
  if (count > 1) {
    int table = lua_gettop(L);
    for (int i = 1; i <= count; i++)
      lua_rawgeti(L, table, i);
    lua_remove(L, table);
  }
  return count;
}

/* ---- arguments ---- */

void greenlet_store_args(lua_State *L, int index, int count) {
  const struct greenlet *g = lua_touserdata(L, index);
  index = lua_absindex(L, index);
  if (!g->spread)
    greenlet_store(L, index, count);
  else
    for (int i = count - 1; i >= 0; i--)
      lua_setiuservalue(L, index, UV_ARGS + i);
}

int greenlet_push_args(lua_State *L, int index) {
  const struct greenlet *g = lua_touserdata(L, index);
  if (!g->spread)
    return greenlet_push_stored(L, index, g->args);
  index = lua_absindex(L, index);
  for (int i = 0; i < g->args; i++)
    if (g->nursery)
      nursery_push_arg(L, g, i);
    else
      lua_getiuservalue(L, index, UV_ARGS + i);
  return g->args;
}

void greenlet_drop_args(lua_State *L, int index) {
  struct greenlet *g = lua_touserdata(L, index);
  index = lua_absindex(L, index);
  int first = g->spread ? UV_ARGS : UV_OUTCOME, count = g->spread ? g->args : g->args > 0;
  for (int i = 0; i < count && !g->nursery; i++) {
    lua_pushnil(L);
    lua_setiuservalue(L, index, first + i);
  }
  g->args = -1;
}
