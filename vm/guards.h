/*
 * guards.h: what of Lua's own library must know about greenlets.
 *
 * coroutine.resume and close refuse the thread of a blocked greenlet, coroutine.yield and
 * isyieldable say in a greenlet's own body what they say in a main program, running() marks
 * a thread as known; resume and wrap note which coroutine runs.  os.exit(code, true) ends
 * greenlets first.
 */
#ifndef MOONLET_GUARDS_H
#define MOONLET_GUARDS_H

struct hub;
struct lua_State;

void guards_install(struct lua_State *L, struct hub *hub);

#endif
