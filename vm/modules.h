/* modules.h: the modules in C that come with the runtime, by the names to require them. */
#ifndef MOONLET_MODULES_H
#define MOONLET_MODULES_H

#include <lauxlib.h>

extern const luaL_Reg moonlet_modules[];

/* A module in a shared object of its own, built only where its library is installed. */
struct extension {
  const char *name;
  const char *library, *package; /* the latter as Debian calls it */
};

extern const struct extension moonlet_extensions[];

/* Lets a state `require` all of Moonlet's modules; a second time changes nothing. */
void modules_install(lua_State *L);

#endif
