/* resolver.h: who answers questions: threads, c-ares, or the caller's own thread. */
#ifndef MOONLET_RESOLVER_H
#define MOONLET_RESOLVER_H

#include <lua.h>

struct question;

/* Has the question answered by the resolver in use; chooses one at the first use. */
void resolver_start(lua_State *L, struct question *question);

/* Pushes the name of the resolver in use. */
void resolver_push(lua_State *L);

/* Chooses the first that loads of those that the value at `index` names: a text with commas or
   a list.  Raises an error if a name is unknown, or if none loads. */
void resolver_set(lua_State *L, int index);

/* The same for the servers that it asks: a text with commas, or nil for the system's. */
void resolver_push_servers(lua_State *L);
void resolver_set_servers(lua_State *L, int index);

#endif
