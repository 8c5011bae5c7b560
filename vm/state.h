/*
 * state.h: Lua states of our own: the command's, and those of threads that compute.
 */
#ifndef MOONLET_STATE_H
#define MOONLET_STATE_H

#include <lua.h>

/* As luaL_newstate, but the state's memory is a heap of its own (heap.h). */
lua_State *state_new(void);

/* lua_close, for one of these. */
void state_close(lua_State *L);

#endif
