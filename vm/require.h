/*
 * require.h: a `require` that runs a module's chunk once, however many greenlets ask for it.
 *
 * While one greenlet loads a module, others that require it wait.  A circle of modules that
 * require each other behaves as in Lua.
 */
#ifndef MOONLET_REQUIRE_H
#define MOONLET_REQUIRE_H

struct lua_State;

/* Replaces the global function require. */
void require_install(struct lua_State *L);

#endif
