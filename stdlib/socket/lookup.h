/*
 * lookup.h: a name being looked up, for whatever has to wait for its addresses.
 *
 *     struct lookup *lookup = lookup_begin(L, host, service, AF_UNSPEC, SOCK_STREAM, 0);
 *     ...keep the userdata that it pushed within reach of the step...
 *     static const struct wait_kind kind = {.name = "connect", .step = connect_step,
 *         .external = true, .enter = lookup_enter, .leave = lookup_leave};
 *     return wait_in(L, lookup_ring(lookup), limit, &kind);
 *
 * The step returns WAIT_AGAIN until lookup_done(); one that is done at once must not be
 * waited for.  A greenlet that is killed or times out simply leaves: the lookup is given up
 * when its userdata is collected or closed, and a late answer is dropped.
 */
#ifndef MOONLET_LOOKUP_H
#define MOONLET_LOOKUP_H

#include <lua.h>
#include <netdb.h>
#include <stdbool.h>

#include "question.h"

struct link;
struct lookup;

/*
 * Begins to look up `host` and `service` (one of them may be NULL) and pushes the lookup, a
 * userdata.  Numeric addresses are answered at once.  `family` is AF_UNSPEC, AF_INET or
 * AF_INET6, `socktype` SOCK_STREAM, SOCK_DGRAM or 0, `flags` AI_*.  Raises only when out of
 * memory.
 */
struct lookup *lookup_begin(lua_State *L, const char *host, const char *service, int family,
                            int socktype, int flags);

/* Whether the answer is there. */
bool lookup_done(const struct lookup *lookup);

/* Where to wait for it, one greenlet at a time, with a wait_kind that is external, enters and
 * leaves like this. */
struct link *lookup_ring(struct lookup *lookup);
void lookup_enter(struct link *ring);
void lookup_leave(struct link *ring);

/* When it is done: the addresses, which live as long as the lookup; NULL if it failed. */
const struct addrinfo *lookup_result(const struct lookup *lookup);

/* When it has failed: pushes nil, a message in LuaSocket's words, and the EAI_ code; returns 3. */
int lookup_push_failure(lua_State *L, const struct lookup *lookup);

/* Gives it up now: it is done, and has failed.  Who waits for it is woken. */
void lookup_abandon(struct lookup *lookup);

/*
 * The same in three steps, for any question: pushes a lookup that is not begun yet; its
 * question, to be filled in, and to be read when it is done (NULL: given up); begins.
 */
struct lookup *lookup_new(lua_State *L, enum question_kind kind, const char *host,
                          const char *service);
struct question *lookup_question(const struct lookup *lookup);
void lookup_start(lua_State *L, struct lookup *lookup);

#endif
