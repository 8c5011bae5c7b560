/* request.h: requests as they come. */
#ifndef MOONLET_WSAPI_REQUEST_H
#define MOONLET_WSAPI_REQUEST_H

#include <lua.h>

/*
 * reader(spare, meta, keep): the function that reads requests for a server. Its connections
 * share one parser, spare[1], since most requests come as a whole: who needs it longer takes it
 * out. `meta` is the metatable of environments; `keep`: the parser is asked about each request
 * afterwards.
 *
 * read(sock, host, port, first) waits for bytes. It returns nil if none come; false and the bytes,
 * if the head is not complete, or wrong, or there is no spare parser, or (with `first`) HTTP/2 may
 * begin; else the environment and what Parser:cgi returns. Two more values come if the request is
 * not over with that: bytes behind the head, or nil, and the parser, which was taken out.
 */
int wsapi_reader(lua_State *L);

#endif
