/* sources: stdlib/values.c */
/* Messages of values that were damaged on the way: read without harm, or refused. */
#include "../stdlib/values.h"
#include "support.h"

static const char value[] =
    "local t = {1, 2.5, 'three', {}, nil, true, [-1] = false, name = {deep = {{{}}}}}\n"
    "t.self, t[t], t.long = t, 'key', ('x'):rep(300)\n"
    "for i = 1, 20 do t[#t + 1] = {i, [i * 1000] = tostring(i)} end\n"
    "return t, nil, math.mininteger, t.name, ''";

static uint64_t seed = 88172645463325252;

static uint64_t any(uint64_t below) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed % below;
}

static int l_get(lua_State *L) { return values_get(L, lua_touserdata(L, 1)); }

/* Whether it can be read. */
static bool readable(lua_State *L, const struct values *values) {
  lua_settop(L, 0);
  lua_pushcfunction(L, l_get);
  lua_pushlightuserdata(L, (void *)values);
  return lua_pcall(L, 1, LUA_MULTRET, 0) == LUA_OK;
}

/* In a block of its very size, so that reading beyond it is found. */
static struct values copy_of(const struct values *values, size_t size) {
  struct values copy = {.data = malloc(size ? size : 1), .size = size, .capacity = size};
  check(copy.data != NULL);
  memcpy(copy.data, values->data, size);
  if (size >= sizeof(struct values_header))
    ((struct values_header *)copy.data)->size = size;
  return copy;
}

static void is_read_whole(lua_State *L, const struct values *values) {
  check(readable(L, values) && lua_gettop(L) == 5);
  check(lua_istable(L, 1) && lua_isnil(L, 2) && lua_tointeger(L, 3) == LUA_MININTEGER);
  lua_getfield(L, 1, "name");
  check(lua_rawequal(L, -1, 4));
  lua_getfield(L, 1, "self");
  check(lua_rawequal(L, -1, 1));
}

static void is_refused_cut(lua_State *L, const struct values *values) {
  size_t readable_ones = 0;
  for (size_t size = 0; size < values->size; size++) {
    struct values copy = copy_of(values, size);
    readable_ones += readable(L, &copy);
    values_clear(&copy);
  }
  check(readable_ones == 5); /* cut between values */
}

static void is_harmless_damaged(lua_State *L, const struct values *values) {
  for (int round = 0; round < 20000; round++) {
    struct values copy = copy_of(values, values->size);
    for (uint64_t damages = 1 + any(4); damages > 0; damages--) {
      uint64_t place = sizeof(struct values_header) - 4 + any(copy.size - 12);
      copy.data[place] = (char)any(256);
    }
    readable(L, &copy);
    values_clear(&copy);
  }
}

int main(void) {
  limit_time(60);
  lua_State *L = new_state();
  check(luaL_dostring(L, value) == LUA_OK);
  struct values values = {0};
  check(values_put(L, &values, 1, lua_gettop(L), "value"));
  is_read_whole(L, &values);
  is_refused_cut(L, &values);
  is_harmless_damaged(L, &values);
  values_clear(&values);
  lua_close(L);
  return 0;
}
