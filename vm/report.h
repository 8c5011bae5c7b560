/*
 * report.h: what is told to people: errors nobody caught, who waits for what.
 */
#ifndef MOONLET_REPORT_H
#define MOONLET_REPORT_H

#include "hub.h"

/* The Greenlet at `index` has failed: calls the error handler, or prints to stderr. */
void report_failure(lua_State *L, int index);

/* Pushes one line a greenlet: its name, state, and what it waits for. */
void report_push_waiting(lua_State *L, struct hub *hub);

/* The Lua functions set_error_handler, run_info, stats. */
extern const luaL_Reg report_functions[];

#endif
