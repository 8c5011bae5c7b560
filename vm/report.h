/*
 * report.h: what is told to people: errors nobody caught, who waits for what.
 */
#ifndef MOONLET_REPORT_H
#define MOONLET_REPORT_H

#include "hub.h"

/* Prints a Greenlet, an error and its traceback (on top of the stack, popped) to stderr. */
void report_print(lua_State *L);

/* Pushes the user's error handler, if there is one. */
bool report_push_handler(lua_State *L);

/* Pushes one line a greenlet: its name, state, and what it waits for. */
void report_push_waiting(lua_State *L, struct hub *hub);

/* The Lua functions set_error_handler, run_info, stats. */
extern const luaL_Reg report_functions[];

#endif
