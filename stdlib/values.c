/* values.c: writing and reading messages of values (see values.h). */
#include "values.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define METATABLE "moonlet.values"

/*
 * What a value begins with.  Lengths, counts and integers have seven bits in a byte; a
 * table has the count of its array, the array, the number of further pairs, and these.
 */
enum tag { TAG_NIL, TAG_FALSE, TAG_TRUE, TAG_INTEGER, TAG_FLOAT, TAG_STRING, TAG_TABLE, TAG_AGAIN };

/* ---- the message ---- */

static int l_collect(lua_State *L) {
  values_clear(lua_touserdata(L, 1));
  return 0;
}

struct values *values_new(lua_State *L) {
  struct values *values = lua_newuserdatauv(L, sizeof *values, 0);
  *values = (struct values){0};
  if (luaL_newmetatable(L, METATABLE)) {
    lua_pushcfunction(L, l_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return values;
}

struct values *values_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, METATABLE);
}

void values_clear(struct values *values) {
  free(values->data);
  *values = (struct values){0};
}

struct values values_take(struct values *values) {
  struct values taken = *values;
  *values = (struct values){0};
  return taken;
}

static struct values_header *header(const struct values *values) {
  return (struct values_header *)values->data;
}

/* ---- writing ---- */

/* A step of the path to the value at hand: the array's index, or the stack's of the key. */
struct step {
  lua_Integer index; /* 0: the key counts */
  int key;
};

struct writer {
  lua_State *L;
  struct values *out;
  int seen; /* stack index of a table, once there is one: table -> its number */
  int depth;
  const char *refused; /* what cannot be sent */
  bool in_key;
  struct step path[VALUES_DEPTH];
};

static char *reserve(lua_State *L, struct values *out, size_t size) {
  if (out->capacity - out->size < size) {
    size_t capacity = out->capacity * 2 + size + 64;
    char *data = realloc(out->data, capacity);
    if (!data)
      luaL_error(L, "not enough memory");
    out->data = data;
    out->capacity = capacity;
  }
  return out->data + out->size;
}

static void add(struct writer *w, const void *data, size_t size) {
  memcpy(reserve(w->L, w->out, size), data, size);
  w->out->size += size;
}

static void add_tag(struct writer *w, enum tag tag) {
  *reserve(w->L, w->out, 1) = (char)tag;
  w->out->size++;
}

static void add_number(struct writer *w, uint64_t number) {
  char *place = reserve(w->L, w->out, 10);
  int size = 0;
  for (; number >= 0x80; number >>= 7)
    place[size++] = (char)(number | 0x80);
  place[size++] = (char)number;
  w->out->size += (size_t)size;
}

static void add_lua_number(struct writer *w, int index) {
  if (lua_isinteger(w->L, index)) {
    uint64_t bits = (uint64_t)lua_tointeger(w->L, index);
    add_tag(w, TAG_INTEGER);
    add_number(w, bits << 1 ^ (0 - (bits >> 63))); /* small numbers of both signs are short */
  } else {
    lua_Number number = lua_tonumber(w->L, index);
    add_tag(w, TAG_FLOAT);
    add(w, &number, sizeof number);
  }
}

static void add_string(struct writer *w, int index) {
  size_t size;
  const char *text = lua_tolstring(w->L, index, &size);
  add_tag(w, TAG_STRING);
  add_number(w, size);
  add(w, text, size);
}

static bool refuse(struct writer *w, const char *what) {
  w->refused = what;
  return false;
}

static bool add_value(struct writer *w, int index);

static bool add_array(struct writer *w, int table, lua_Integer length) {
  for (lua_Integer i = 1; i <= length; i++) {
    w->path[w->depth - 1] = (struct step){.index = i};
    lua_rawgeti(w->L, table, i);
    if (!add_value(w, lua_gettop(w->L)))
      return false;
    lua_pop(w->L, 1);
  }
  return true;
}

static bool is_in_array(lua_State *L, int index, lua_Integer length) {
  if (!lua_isinteger(L, index))
    return false;
  lua_Integer i = lua_tointeger(L, index);
  return i >= 1 && i <= length;
}

/* The key below the top of the stack and the value there, which is popped. */
static bool add_pair(struct writer *w) {
  int key = lua_gettop(w->L) - 1;
  w->path[w->depth - 1] = (struct step){.key = key};
  w->in_key = true;
  if (!add_value(w, key))
    return false;
  w->in_key = false;
  if (!add_value(w, key + 1))
    return false;
  lua_pop(w->L, 1);
  return true;
}

static bool add_pairs(struct writer *w, int table, lua_Integer length, uint64_t *count) {
  for (lua_pushnil(w->L); lua_next(w->L, table);) {
    if (is_in_array(w->L, -2, length)) {
      lua_pop(w->L, 1);
      continue;
    }
    if (!add_pair(w))
      return false;
    (*count)++;
  }
  return true;
}

/* The count of the pairs is known after them, and its place kept for it. */
static bool add_members(struct writer *w, int table) {
  lua_Integer length = (lua_Integer)lua_rawlen(w->L, table);
  uint64_t count = 0;
  add_number(w, (uint64_t)length);
  size_t place = w->out->size;
  add(w, &count, sizeof count);
  if (!add_array(w, table, length) || !add_pairs(w, table, length, &count))
    return false;
  memcpy(w->out->data + place, &count, sizeof count);
  return true;
}

/* Whether the table has been met before: then its number stands for it. */
static bool add_again(struct writer *w, int index) {
  if (lua_isnil(w->L, w->seen)) {
    lua_newtable(w->L);
    lua_replace(w->L, w->seen);
  }
  lua_pushvalue(w->L, index);
  bool again = lua_rawget(w->L, w->seen) == LUA_TNUMBER;
  if (again) {
    add_tag(w, TAG_AGAIN);
    add_number(w, (uint64_t)lua_tointeger(w->L, -1));
    header(w->out)->shared = true;
  }
  lua_pop(w->L, 1);
  return again;
}

static bool add_table(struct writer *w, int index) {
  luaL_checkstack(w->L, 8, "nested tables");
  if (add_again(w, index))
    return true;
  if (lua_getmetatable(w->L, index))
    return refuse(w, "tables with a metatable cannot be sent");
  if (w->depth == VALUES_DEPTH)
    return refuse(w, "tables nested so deep cannot be sent");
  lua_pushvalue(w->L, index);
  lua_pushinteger(w->L, header(w->out)->tables++);
  lua_rawset(w->L, w->seen);
  bool in_key = w->in_key;
  w->in_key = false;
  w->depth++;
  add_tag(w, TAG_TABLE);
  if (!add_members(w, index))
    return false;
  w->depth--;
  w->in_key = in_key;
  return true;
}

static bool add_value(struct writer *w, int index) {
  switch (lua_type(w->L, index)) {
  case LUA_TNIL:
    return add_tag(w, TAG_NIL), true;
  case LUA_TBOOLEAN:
    return add_tag(w, lua_toboolean(w->L, index) ? TAG_TRUE : TAG_FALSE), true;
  case LUA_TNUMBER:
    return add_lua_number(w, index), true;
  case LUA_TSTRING:
    return add_string(w, index), true;
  case LUA_TTABLE:
    return add_table(w, index);
  case LUA_TFUNCTION:
    return refuse(w, "functions cannot be sent");
  case LUA_TTHREAD:
    return refuse(w, "coroutines cannot be sent");
  default:
    return refuse(w, "userdata cannot be sent");
  }
}

/* ---- telling which value cannot be sent ---- */

static bool is_name(const char *text, size_t size) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  size_t first = strspn(text, letters), n = first;
  while (text[n] != '\0' && strchr("0123456789", text[n]))
    n += 1 + strspn(text + n + 1, letters);
  return first > 0 && n == size && size <= 40;
}

/* Pushes ".name", "[3]", '["two words"]' or the like. */
static void push_step(lua_State *L, const struct step *step) {
  size_t size;
  if (step->index) {
    lua_pushfstring(L, "[%I]", step->index);
  } else if (lua_type(L, step->key) == LUA_TSTRING) {
    const char *text = lua_tolstring(L, step->key, &size);
    if (is_name(text, size))
      lua_pushfstring(L, ".%s", text);
    else
      lua_pushfstring(L, "[\"%s%s\"]", lua_pushlstring(L, text, size > 40 ? 40 : size),
                      size > 40 ? "..." : "");
  } else {
    lua_pushfstring(L, "[%s]", luaL_tolstring(L, step->key, NULL));
  }
}

/* Pushes the path to the table or value at hand. */
static void push_path(struct writer *w) {
  int shown = w->depth > 20 ? 20 : w->depth;
  lua_pushliteral(w->L, "");
  for (int i = 0; i < shown; i++) {
    int top = lua_gettop(w->L);
    push_step(w->L, &w->path[i]);
    lua_rotate(w->L, top + 1, 1);
    lua_settop(w->L, top + 1);
    lua_concat(w->L, 2);
  }
  if (shown < w->depth) {
    lua_pushliteral(w->L, "...");
    lua_concat(w->L, 2);
  }
}

static void push_reason(struct writer *w, const char *noun, int number) {
  lua_State *L = w->L;
  luaL_checkstack(L, 16, NULL);
  if (w->in_key)
    w->depth--;
  push_path(w);
  const char *path = lua_tostring(L, -1);
  const char *where = w->in_key ? "key of the table" : "value";
  const char *at = *path ? " at " : "";
  lua_pushfstring(L, "%s %d: ", noun, number);
  if (*path || w->in_key)
    lua_pushfstring(L, "%s%s%s: ", where, at, path);
  else
    lua_pushliteral(L, "");
  lua_pushfstring(L, "%s%s%s", lua_tostring(L, -2), lua_tostring(L, -1), w->refused);
}

bool values_put(lua_State *L, struct values *values, int first, int count, const char *noun) {
  struct writer w = {.L = L, .out = values};
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, NULL);
  if (!values->data) {
    memset(reserve(L, values, sizeof(struct values_header)), 0, sizeof(struct values_header));
    values->size = sizeof(struct values_header);
  }
  const struct values_header before = *header(values);
  size_t size = values->size;
  lua_pushnil(L);
  w.seen = top + 1;
  for (int i = 0; i < count; i++)
    if (!add_value(&w, first + i)) {
      *header(values) = before;
      values->size = size;
      push_reason(&w, noun, i + 1);
      lua_replace(L, top + 1);
      lua_settop(L, top + 1);
      return false;
    }
  lua_settop(L, top);
  header(values)->size = values->size;
  return true;
}

/* ---- reading ---- */

struct reader {
  lua_State *L;
  const char *next, *end;
  int seen; /* stack index of a table: number -> table; 0: no table is met again */
  lua_Integer tables;
  int depth;
};

static _Noreturn void malformed(lua_State *L) {
  luaL_error(L, "malformed message of values");
  __builtin_unreachable();
}

static const char *take(struct reader *r, uint64_t size) {
  if ((uint64_t)(r->end - r->next) < size)
    malformed(r->L);
  const char *data = r->next;
  r->next += size;
  return data;
}

static uint64_t take_number(struct reader *r) {
  uint64_t number = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    unsigned char byte = (unsigned char)*take(r, 1);
    number |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80)
      return number;
  }
  malformed(r->L);
}

static void push_value(struct reader *r);

/* Each value takes a byte at least, so that no count makes a table larger than the message. */
static int room(const struct reader *r, uint64_t count) {
  uint64_t most = (uint64_t)(r->end - r->next);
  return (int)(count < most ? count : most > INT32_MAX ? INT32_MAX : most);
}

/* Pushes a table that may be met again. */
static void push_new(struct reader *r, uint64_t length, uint64_t pairs) {
  lua_createtable(r->L, room(r, length), room(r, pairs));
  if (r->seen) {
    lua_pushvalue(r->L, -1);
    lua_rawseti(r->L, r->seen, r->tables++);
  }
}

static bool is_key(lua_State *L) {
  lua_Number number = lua_tonumber(L, -1);
  return !lua_isnil(L, -1) && (lua_type(L, -1) != LUA_TNUMBER || number == number);
}

static void push_pair(struct reader *r) {
  push_value(r);
  if (!is_key(r->L))
    malformed(r->L);
  push_value(r);
  lua_rawset(r->L, -3);
}

static void push_table(struct reader *r) {
  uint64_t pairs, length = take_number(r);
  luaL_checkstack(r->L, 8, "nested tables");
  if (++r->depth > VALUES_DEPTH)
    malformed(r->L);
  memcpy(&pairs, take(r, sizeof pairs), sizeof pairs);
  push_new(r, length, pairs);
  for (uint64_t i = 1; i <= length; i++) {
    push_value(r);
    lua_rawseti(r->L, -2, (lua_Integer)i);
  }
  for (; pairs > 0; pairs--)
    push_pair(r);
  r->depth--;
}

static void push_again(struct reader *r) {
  uint64_t number = take_number(r);
  if (!r->seen || lua_rawgeti(r->L, r->seen, (lua_Integer)number) != LUA_TTABLE)
    malformed(r->L);
}

static void push_integer(struct reader *r) {
  uint64_t bits = take_number(r);
  lua_pushinteger(r->L, (lua_Integer)(bits >> 1 ^ (0 - (bits & 1))));
}

static void push_float(struct reader *r) {
  lua_Number number;
  memcpy(&number, take(r, sizeof number), sizeof number);
  lua_pushnumber(r->L, number);
}

static void push_string(struct reader *r) {
  uint64_t size = take_number(r);
  lua_pushlstring(r->L, take(r, size), size);
}

static void push_value(struct reader *r) {
  switch (*take(r, 1)) {
  case TAG_NIL:
    return lua_pushnil(r->L);
  case TAG_FALSE:
    return lua_pushboolean(r->L, false);
  case TAG_TRUE:
    return lua_pushboolean(r->L, true);
  case TAG_INTEGER:
    return push_integer(r);
  case TAG_FLOAT:
    return push_float(r);
  case TAG_STRING:
    return push_string(r);
  case TAG_TABLE:
    return push_table(r);
  case TAG_AGAIN:
    return push_again(r);
  default:
    malformed(r->L);
  }
}

int values_get(lua_State *L, const struct values *values) {
  int top = lua_gettop(L);
  if (values->size < sizeof(struct values_header) || header(values)->size != values->size)
    malformed(L);
  struct reader r = {.L = L,
                     .next = values->data + sizeof(struct values_header),
                     .end = values->data + values->size};
  if (header(values)->shared) {
    lua_newtable(L);
    r.seen = top + 1;
  }
  while (r.next < r.end) {
    luaL_checkstack(L, 8, "too many values");
    push_value(&r);
  }
  if (r.seen)
    lua_remove(L, r.seen);
  return lua_gettop(L) - top;
}
