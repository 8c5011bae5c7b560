/* noreturn.h: tells clang-tidy which functions of Lua's never return. */
#include <lauxlib.h>

#define RAISES __attribute__((analyzer_noreturn))

extern int lua_error(lua_State *) RAISES;
extern int luaL_error(lua_State *, const char *, ...) RAISES;
extern int luaL_argerror(lua_State *, int, const char *) RAISES;
extern int luaL_typeerror(lua_State *, int, const char *) RAISES;
