/* control.h: sleep, idle, getcurrent, try, shield. */
#ifndef MOONLET_CONTROL_H
#define MOONLET_CONTROL_H

#include <lauxlib.h>

extern const luaL_Reg control_functions[];

#endif
