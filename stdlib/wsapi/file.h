/* file.h: files to be served. */
#ifndef MOONLET_WSAPI_FILE_H
#define MOONLET_WSAPI_FILE_H

#include <lua.h>

/*
 * open(path): a Lua file, its size and the time of its last change (seconds, nanoseconds); or
 * nil, "directory"; or nil, message, errno.  It never waits, as opening a FIFO would.
 */
int wsapi_open(lua_State *L);

#endif
