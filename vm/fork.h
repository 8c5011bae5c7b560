/*
 * fork.h: what a forked child makes of its parent's runtime.
 *
 * The child starts with a fresh hub in which only the greenlet lives that called fork; it is
 * the child's main greenlet, and the process ends with it.  All others have ended there,
 * without running again and without anybody being told; their timers and watchers are gone.
 * Threads stay behind in the parent with the work they are at; pools start new ones.
 * moonlet.keep_at_fork(true) lets them go on in both processes, as gevent does.
 */
#ifndef MOONLET_FORK_H
#define MOONLET_FORK_H

#include <lauxlib.h>

struct hub;

void fork_open(struct hub *hub);
void fork_close(struct hub *hub);

extern const luaL_Reg fork_functions[];

#endif
