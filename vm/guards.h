/*
 * guards.h: what of Lua's own library must know about greenlets.
 *
 * coroutine.resume and wrap let greenlets block in coroutines (coroutine.h), resume and close
 * refuse what is blocked, yield and isyieldable say in a greenlet's own body what they say in
 * a main program, running() marks a thread as known.  os.exit(code, true) ends greenlets first.
 */
#ifndef MOONLET_GUARDS_H
#define MOONLET_GUARDS_H

#include <lua.h>

struct hub;

/* A function in the place of one of the library's; upvalue: the table of hub->identified. */
struct guard {
  const char *library, *name;
  lua_CFunction *original; /* NULL: replaced without using it */
  lua_CFunction guard;
};

void guards_install(lua_State *L, struct hub *hub);

#endif
