/*
 * coroutine.h: greenlets that block inside coroutines of the user's.
 *
 * coroutine.resume and what coroutine.wrap makes are ours.  hub->parkable is the current
 * greenlet's own thread, or the coroutine that runs in it if each of those from the thread
 * to it was resumed by them, from a place that can yield.  A wait in such a coroutine parks:
 * from the innermost one outwards each yields to the one that resumed it, and at last the
 * thread to the hub.  When the greenlet is woken, each resumes the next one inwards.
 * Until then there is a mark on top of their stacks, by which the coroutine library says of
 * them what it says of those that have not yielded.
 */
#ifndef MOONLET_COROUTINE_H
#define MOONLET_COROUTINE_H

#include <lua.h>

#include "guards.h"

struct greenlet;

/* Marks L, and yields to where it was resumed; `k` goes on when the greenlet is woken. */
int coroutine_block(lua_State *L, struct greenlet *g, lua_KFunction k);

/*
 * For `k`, with its context: the greenlet, and the mark is gone; NULL if a stranger has resumed
 * L, whom coroutine_refuse() answers.  The innermost `k` clears g->nested.
 */
struct greenlet *coroutine_woken(lua_State *L, lua_KContext top);

/* Yields a reason why not to whoever has resumed the blocked L, which stays as it was. */
int coroutine_refuse(lua_State *L, lua_KContext top, lua_KFunction k);

extern const struct guard coroutine_guards[];

#endif
