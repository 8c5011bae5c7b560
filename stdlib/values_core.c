/* values_core.c: moonlet.values.core, messages of values (see values.h) as strings. */
#include <lauxlib.h>

#include "moonlet.h"
#include "values.h"

MOONLET_API int luaopen_moonlet_values_core(lua_State *L);

/* core.encode(value, ...) -> string | nil, why not, which begins with the value's number */
static int l_encode(lua_State *L) {
  int count = lua_gettop(L);
  struct values *values = values_new(L);
  if (!values_put(L, values, 1, count, "value")) {
    luaL_pushfail(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushlstring(L, values->data, values->size);
  values_clear(values);
  return 1;
}

/* core.decode(string) -> value, ...; raises if it is malformed */
static int l_decode(lua_State *L) {
  size_t size;
  const char *data = luaL_checklstring(L, 1, &size);
  const struct values values = {.data = (char *)data, .size = size, .capacity = size};
  return values_get(L, &values);
}

int luaopen_moonlet_values_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"encode", l_encode}, {"decode", l_decode}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
