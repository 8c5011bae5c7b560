/* modules.h: the modules in C that come with the runtime, by the names to require them. */
#ifndef MOONLET_MODULES_H
#define MOONLET_MODULES_H

#include <lauxlib.h>

extern const luaL_Reg moonlet_modules[];

#endif
