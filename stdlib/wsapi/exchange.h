/*
 * exchange.h: requests and responses that need no more than one read and one write.
 *
 * Most come so, and nothing of them passes through Lua but the application.  For all others the
 * server's half in Lua goes on from what is returned here.
 */
#ifndef MOONLET_WSAPI_EXCHANGE_H
#define MOONLET_WSAPI_EXCHANGE_H

#include "../socket/stream.h"

/*
 * conversation{ server =, app =, meta =, spare =, watched = }: the function that serves requests of
 * a server's connections with the application. `meta` is the metatable of environments. The
 * connections share one parser, spare[1], since most requests come as a whole: who needs it longer
 * takes it out. `watched`: the server has to see each request.
 *
 * converse(sock, host, port, first, connection) waits for a request, answers it, and goes on with
 * the next one, until the connection is of no use any more. It returns
 *   - nothing, then;
 *   - false, bytes that have come, and whether they are the first ones: the head is not complete,
 *     or wrong, or there is no spare parser, or (with `first`) HTTP/2 may begin;
 *   - the environment and what else Parser:cgi returns, bytes behind the head or nil, and the
 *     parser, which was taken out: a request with a body, of another protocol, or followed by
 *     others;
 *   - true, method, minor, keepalive, status, headers, body: an answer that has to be sent;
 *   - text, the word for what is to follow, length, status, keepalive, body: what is left of one.
 * While the application runs, and in the last two cases, connection.env is the environment.
 */
int wsapi_conversation(lua_State *L);

/*
 * respond(status, headers, body, minor, keepalive, head_only, sock, last): sends a head that is to
 * be followed by nothing; with `last`, if no request may follow, by the end of the stream. Returns
 * whether another request may follow, the status, and the length; besides, what does not go out at
 * once: the text, and the word for what is to follow.
 */
int wsapi_respond(lua_State *L);

#endif
