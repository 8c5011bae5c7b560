/* os.h: what the files of moonlet.os share. */
#ifndef MOONLET_OS_H
#define MOONLET_OS_H

#include <lauxlib.h>

/* Functions of the module, in other files. */
int os_open(lua_State *L);
int os_waitpid(lua_State *L);
int os_fork(lua_State *L);

/* A signal from argument `arg`: its number or its name, with or without SIG. */
int os_check_signal(lua_State *L, int arg);

#endif
