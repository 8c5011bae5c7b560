/*
 * state.h: the Lua state of the command.
 */
#ifndef MOONLET_STATE_H
#define MOONLET_STATE_H

#include <lua.h>

/* As luaL_newstate, but the state's memory is a heap of its own (heap.h). */
lua_State *state_new(void);

#endif
