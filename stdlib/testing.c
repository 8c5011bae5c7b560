/* testing.c: the C half of moonlet.testing: the hub's clock and order (see testing.lua). */
#include <dirent.h>

#include "hub.h"

MOONLET_API int luaopen_moonlet_testing_core(lua_State *L);

/* clock(virtual): turns the virtual clock on or off; returns whether it was on. */
static int l_clock(lua_State *L) {
  struct hub *hub = hub_of(L);
  lua_pushboolean(L, hub->virtual_clock);
  hub->virtual_now = hub_now(hub);
  hub->virtual_clock = lua_toboolean(L, 1);
  return 1;
}

/* order(seed): runs what is ready in a random order; 0: first in, first out.  Returns the old. */
static int l_order(lua_State *L) {
  struct hub *hub = hub_of(L);
  lua_Integer old = (lua_Integer)hub->shuffle;
  hub->shuffle = (uint64_t)luaL_checkinteger(L, 1);
  lua_pushinteger(L, old);
  return 1;
}

/* always_pin(on): every greenlet blocks on a C stack; returns whether it was so. */
static int l_always_pin(lua_State *L) {
  struct hub *hub = hub_of(L);
  lua_pushboolean(L, hub->always_pin);
  hub->always_pin = lua_toboolean(L, 1);
  hub->special = hub->always_pin || hub->closing;
  return 1;
}

/* fds(): how many descriptors this process has open. */
static int l_fds(lua_State *L) {
  lua_Integer count = 0;
  DIR *folder = opendir("/proc/self/fd");
  if (!folder)
    return luaL_error(L, "cannot read /proc/self/fd");
  while (readdir(folder))
    count++;
  closedir(folder);
  lua_pushinteger(L, count);
  return 1;
}

static const luaL_Reg functions[] = {{"clock", l_clock},
                                     {"order", l_order},
                                     {"always_pin", l_always_pin},
                                     {"fds", l_fds},
                                     {NULL, NULL}};

int luaopen_moonlet_testing_core(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  luaL_newlib(L, functions);
  return 1;
}
