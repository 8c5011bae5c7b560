/*
 * watchdog.h: greenlets that compute and never block.
 *
 * A timer of the kernel's signals the hub's thread.  If no greenlet has been changed since
 * the signal before, a hook is set on the Lua state that runs: it reports the greenlet and
 * raises the kill or Timeout that is due for it, which could not reach it otherwise.
 */
#ifndef MOONLET_WATCHDOG_H
#define MOONLET_WATCHDOG_H

#include <lauxlib.h>

struct hub;

void watchdog_close(struct hub *hub);
void watchdog_forked(struct hub *hub);

extern const luaL_Reg watchdog_functions[];

#endif
