/*
 * nursery.h: keeps greenlets and their functions alive until their first turn is over.
 *
 * Most greenlets are spawned, have their turn, and either end in it or block and live on.
 * A nursery is the stack of a Lua thread: to be anchored there costs two pushes, and to leave
 * it a subtraction, because its places are not used again before all in it have left.  So
 * that this happens even if greenlets go on spawning, there are two; while new ones come
 * into one of them the other runs dry.  Who blocks moves to an anchor of his own, for which
 * a slot is set aside.  Where there is no room, a greenlet has its own anchor from the start.
 */
#ifndef MOONLET_NURSERY_H
#define MOONLET_NURSERY_H

#include <lua.h>
#include <stdbool.h>

struct greenlet;
struct hub;

struct nursery {
  lua_State *L;
  int used; /* values on its stack */
  int room; /* how many it has been made to hold */
  int live; /* greenlets in it */
};

/* Makes both, kept by the registry. */
void nursery_open(lua_State *L, struct hub *hub);

/* Takes in `g`.  On top of L's stack are its body and its object: moved if it has been taken in,
   and the object pushed again; else false, and nothing has changed. */
bool nursery_take(lua_State *L, struct hub *hub, struct greenlet *g);

/* Push onto `to`, or another stack, what is kept for `g`; nothing can fail. */
void nursery_push_body(lua_State *to, const struct greenlet *g);
void nursery_push(lua_State *L, const struct greenlet *g);

/* It has ended: out of the nursery.  Or it lives on: to an anchor. */
void nursery_leave(struct hub *hub, struct greenlet *g);
void nursery_settle(struct hub *hub, struct greenlet *g);

#endif
