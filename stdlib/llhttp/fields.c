/* fields.c: header fields as Lua tables. */
#include <string.h>

#include "parser.h"

/* A name of usual length is made lower case here, on the stack. */
#define SHORT_NAME 64

static void push_lower(lua_State *L, const char *name, size_t length) {
  char lower[SHORT_NAME];
  luaL_Buffer buffer;
  char *to = length <= sizeof lower ? lower : luaL_buffinitsize(L, &buffer, length);
  for (size_t i = 0; i < length; i++)
    to[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
  if (to == lower)
    lua_pushlstring(L, lower, length);
  else
    luaL_pushresultsize(&buffer, length);
}

/* On top: the table, the name in lower case, the value.  Pops the last two. */
static void set(lua_State *L, bool cookie) {
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -4) == LUA_TNIL) {
    lua_pop(L, 1);
  } else {
    lua_insert(L, -2);
    lua_pushstring(L, cookie ? "; " : ", ");
    lua_insert(L, -2);
    lua_concat(L, 3);
  }
  lua_rawset(L, -3);
}

void fields_push(lua_State *L, const struct parser *self, size_t from, size_t to) {
  int count = (int)(to - from);
  lua_createtable(L, 2 * count, count);
  for (int i = 0; i < count; i++) {
    const struct field *field = &self->fields[from + (size_t)i];
    const char *name = self->head + field->name.start;
    size_t length = field->name.end - field->name.start;
    struct span value = field_value(self, field);
    lua_pushlstring(L, name, length);
    lua_rawseti(L, -2, 2 * i + 1);
    push_lower(L, name, length);
    lua_pushlstring(L, self->head + value.start, value.end - value.start);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -4, 2 * i + 2);
    set(L, field_is(self, field, "cookie", 6));
  }
}
