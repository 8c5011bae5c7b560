/* searcher.h: finds Moonlet's other modules, installed or not, whatever Lua's paths say. */
#ifndef MOONLET_SEARCHER_H
#define MOONLET_SEARCHER_H

struct lua_State;

/* Appends a searcher for modules named moonlet.* to package.searchers. */
void searcher_install(struct lua_State *L);

#endif
