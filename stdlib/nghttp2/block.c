/* block.c: header blocks that arrive (see session.h). */
#include <stdlib.h>
#include <string.h>

#include "session.h"

/* ---- growing ---- */

static bool grow(void **memory, size_t *capacity, size_t needed, size_t size) {
  if (needed <= *capacity)
    return true;
  size_t wanted = 2 * needed;
  void *grown = realloc(*memory, wanted * size);
  if (!grown)
    return false;
  *memory = grown;
  *capacity = wanted;
  return true;
}

/* False when out of memory. */
bool block_add(struct block *block, const uint8_t *name, size_t name_length, const uint8_t *value,
               size_t value_length, size_t limit) {
  size_t length = name_length + value_length;
  block->listed += length + 32;
  block->overlong = block->overlong || block->listed > limit;
  if (block->overlong)
    return true;
  if (!grow((void **)&block->text, &block->capacity, block->size + length + 256, 1) ||
      !grow((void **)&block->entries, &block->entry_capacity, block->count + 8,
            sizeof *block->entries))
    return false;
  memcpy(block->text + block->size, name, name_length);
  memcpy(block->text + block->size + name_length, value, value_length);
  block->size += length;
  block->entries[block->count++] = (struct entry){name_length, value_length};
  return true;
}

void block_free(struct block *block) {
  free(block->text);
  free(block->entries);
  *block = (struct block){.text = NULL};
}

/* ---- reading ---- */

/* Goes through the fields: `name` and `value` are those of `entry`. */
struct cursor {
  const struct entry *entry, *end;
  const char *name, *value;
};

static struct cursor first(const struct block *block) {
  struct cursor cursor = {block->entries, block->entries + block->count, block->text, NULL};
  if (block->count)
    cursor.value = cursor.name + cursor.entry->name;
  return cursor;
}

static void advance(struct cursor *cursor) {
  cursor->name = cursor->value + cursor->entry->value;
  if (++cursor->entry < cursor->end)
    cursor->value = cursor->name + cursor->entry->name;
}

static bool is(const struct cursor *cursor, const char *name) {
  size_t length = strlen(name);
  return cursor->entry->name == length && memcmp(cursor->name, name, length) == 0;
}

/* The cursor at the field of that name, or at the end. */
static struct cursor find(const struct block *block, const char *name) {
  struct cursor at = first(block);
  while (at.entry < at.end && !is(&at, name))
    advance(&at);
  return at;
}

int block_status(const struct block *block) {
  struct cursor at = find(block, ":status");
  if (at.entry == at.end || at.entry->value != 3)
    return 0;
  return (at.value[0] - '0') * 100 + (at.value[1] - '0') * 10 + at.value[2] - '0';
}

/* ---- as HTTP/1 ---- */

static void add_value(luaL_Buffer *buffer, const struct cursor *at) {
  if (at->entry < at->end)
    luaL_addlstring(buffer, at->value, at->entry->value);
}

/* nghttp2 has seen to it that nothing in a method, path, name or value could end a line. */
void block_push_head(lua_State *L, const struct block *block) {
  struct cursor authority = find(block, ":authority"), path = find(block, ":path");
  struct cursor method = find(block, ":method");
  bool named = authority.entry < authority.end;
  luaL_Buffer buffer;
  luaL_buffinitsize(L, &buffer, block->size + 4 * block->count + 64);
  add_value(&buffer, &method);
  luaL_addchar(&buffer, ' ');
  add_value(&buffer, path.entry < path.end ? &path : &authority);
  luaL_addstring(&buffer, " HTTP/1.1\r\n");
  if (named) {
    luaL_addstring(&buffer, "host: ");
    add_value(&buffer, &authority);
    luaL_addstring(&buffer, "\r\n");
  }
  for (struct cursor at = first(block); at.entry < at.end; advance(&at)) {
    if (*at.name == ':' || (named && is(&at, "host")))
      continue;
    luaL_addlstring(&buffer, at.name, at.entry->name);
    luaL_addstring(&buffer, ": ");
    add_value(&buffer, &at);
    luaL_addstring(&buffer, "\r\n");
  }
  luaL_addstring(&buffer, "\r\n");
  luaL_pushresult(&buffer);
}

/* ---- as a table ---- */

/* On top: the table, a name and its value, which are popped. */
static void set(lua_State *L, const char *separator) {
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -4) == LUA_TNIL) {
    lua_pop(L, 1);
  } else {
    lua_insert(L, -2);
    lua_pushstring(L, separator);
    lua_insert(L, -2);
    lua_concat(L, 3);
  }
  lua_rawset(L, -3);
}

void block_push_fields(lua_State *L, const struct block *block) {
  lua_createtable(L, 2 * (int)block->count, (int)block->count);
  lua_Integer place = 0;
  for (struct cursor at = first(block); at.entry < at.end; advance(&at)) {
    if (*at.name == ':')
      continue;
    lua_pushlstring(L, at.name, at.entry->name);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, ++place);
    lua_pushlstring(L, at.value, at.entry->value);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -4, ++place);
    set(L, is(&at, "cookie") ? "; " : ", ");
  }
}
