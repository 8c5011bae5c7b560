/*
 * repl.h: the interactive mode, and what it shares with the rest of the command (main.c).
 */
#ifndef MOONLET_REPL_H
#define MOONLET_REPL_H

#include <lua.h>

/* Reads, runs and prints until the end of input. Greenlets run while it waits for a line. */
void repl_run(lua_State *L);

/* lua_pcall with a message handler that adds a traceback. */
int command_call(lua_State *L, int nargs, int nresults);

/* Writes the error message on top of the stack to stderr after a prefix, and pops it. */
void command_complain(lua_State *L, const char *prefix);

#endif
