/*
 * A C++ function may block inside a catch clause: what the C++ runtime knows of exceptions in
 * flight belongs to the C stack.  The functions here do to it what such clauses would.
 */
#include <dlfcn.h>

#include "support.h"

struct globals {
  void *caught;
  unsigned uncaught;
};

static struct globals *(*get_globals)(void);

/* Blocks inside a pretended catch clause, and finds its own exception there afterwards. */
static int l_catch(lua_State *L) {
  void *mine = (void *)(size_t)luaL_checkinteger(L, 1);
  check(get_globals()->caught == NULL);
  get_globals()->caught = mine;
  get_globals()->uncaught = (unsigned)luaL_checkinteger(L, 1);
  for (int i = 0; i < 3; i++)
    moonlet_sleep(L, 0);
  check(get_globals()->caught == mine);
  check(get_globals()->uncaught == (unsigned)luaL_checkinteger(L, 1));
  *get_globals() = (struct globals){0};
  return 0;
}

int main(void) {
  limit_time(30);
  void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
  check(library != NULL);
  *(void **)&get_globals = dlsym(library, "__cxa_get_globals");
  check(get_globals != NULL);
  lua_State *L = open_state(NULL);
  lua_register(L, "catch", l_catch);
  run(L, "for i = 1, 20 do moonlet.spawn(catch, i) end\n"
         "catch(100)\n"
         "moonlet.wait()");
  check(get_globals()->caught == NULL);
  close_state(L);
  return 0;
}
