/*
 * protect.h: protected calls that keep the traceback.
 *
 * A function that catches an error only to pass it on (with_timeout, try, shield ...)
 * would lose where the error came from.  Calls made through here remember the traceback
 * of the latest error, so that a report made later can show it.
 */
#ifndef MOONLET_PROTECT_H
#define MOONLET_PROTECT_H

#include <lua.h>

/*
 * Calls the function below `nargs` arguments on top of the stack like lua_pcallk with all
 * results; one slot below the function is used for a message handler, which is still
 * there, under the results, when the call is over.
 */
int protect_call(lua_State *L, int nargs, lua_KContext ctx, lua_KFunction k);

/* Raises the error on top of the stack again, for whoever catches it to see where it came from. */
_Noreturn void protect_rethrow(lua_State *L);

/* Pushes the traceback of the error at `index`, which is raised at that level of `at`. */
void protect_push_traceback(lua_State *L, int index, lua_State *at, int level);

/* Remembers a traceback (on top of the stack, popped) for the error at `index`. */
void protect_remember(lua_State *L, int index);

#endif
