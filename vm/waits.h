/* waits.h: waiting for several objects at once: joinall, wait, iwait, killall. */
#ifndef MOONLET_WAITS_H
#define MOONLET_WAITS_H

#include <lauxlib.h>

extern const luaL_Reg waits_functions[];

#endif
