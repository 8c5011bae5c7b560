/*
 * nursery.h: keeps greenlets and their functions alive until their first turn is over.
 *
 * Most greenlets are spawned, have their turn, and either end in it or block and live on.
 * A nursery is the stack of a Lua thread: to be anchored there costs a push, and to leave
 * it a subtraction, because its places are not used again before all in it have left.  So
 * that this happens even if greenlets go on spawning, there are two; while new ones come
 * into one of them the other runs dry.  Who blocks moves to an anchor of his own, for which
 * a slot is set aside.  Where there is no room, a greenlet has its own anchor from the start.
 */
#ifndef MOONLET_NURSERY_H
#define MOONLET_NURSERY_H

#include "hub.h"

/* Makes both, kept by the registry. */
void nursery_open(lua_State *L, struct hub *hub);

/* One with room for a greenlet; NULL: there is none. */
struct nursery *nursery_make_room(struct hub *hub);

/* It lives on: from the nursery to an anchor. */
void nursery_settle(struct hub *hub, struct greenlet *g);

/* A slot is set aside for each greenlet in it, and nothing else is on its stack. */
static inline bool nursery_is_exact(const struct hub *hub) {
  const struct nursery *one = &hub->nurseries[0], *other = &hub->nurseries[1];
  return hub->set_aside == one->live + other->live && hub->set_aside <= hub->free_count &&
         lua_gettop(one->L) == one->used && lua_gettop(other->L) == other->used;
}

/* Takes in `g`.  On top of L's stack are its body, its arguments and its object: moved if it has
   been taken in, and the object pushed again; else false, and nothing has changed. */
static inline bool nursery_take(lua_State *L, struct hub *hub, struct greenlet *g) {
  hub_set_aside(L, hub);
  struct nursery *nursery = hub->nursery;
  int size = g->args + 2;
  if (unlikely(nursery->used + size > nursery->room) && !(nursery = nursery_make_room(hub))) {
    hub->set_aside--;
    return false;
  }
  lua_State *to = nursery->L;
  lua_xmove(L, to, size);
  lua_pushvalue(to, -1);
  lua_xmove(to, L, 1);
  nursery->live++;
  g->nursery = nursery;
  g->slot = nursery->used += size;
  paranoid(nursery_is_exact(hub));
  return true;
}

/* Push what is kept for `g`: its body and all arguments, argument i (from 0), the object. */
static inline void nursery_push_call(lua_State *to, const struct greenlet *g) {
  lua_State *from = g->nursery->L;
  for (int i = -1; i < g->args; i++)
    lua_pushvalue(from, g->slot - g->args + i);
  lua_xmove(from, to, 1 + g->args);
}

static inline void nursery_push_arg(lua_State *L, const struct greenlet *g, int i) {
  lua_State *from = g->nursery->L;
  lua_pushvalue(from, g->slot - g->args + i);
  lua_xmove(from, L, 1);
}

static inline void nursery_push(lua_State *L, const struct greenlet *g) {
  lua_State *from = g->nursery->L;
  lua_pushvalue(from, g->slot);
  lua_xmove(from, L, 1);
}

/* Keeps the value on top of L's stack (popped) in a user value of the object. */
static inline void nursery_set(const struct greenlet *g, lua_State *L, int value) {
  lua_State *to = g->nursery->L;
  lua_xmove(L, to, 1);
  lua_setiuservalue(to, g->slot, value);
}

/* It has ended, or settles.  The last to leave clears the nursery. */
static inline void nursery_leave(struct hub *hub, struct greenlet *g) {
  struct nursery *nursery = g->nursery;
  g->nursery = NULL;
  hub->set_aside--;
  if (--nursery->live == 0) {
    lua_settop(nursery->L, 0);
    nursery->used = 0;
  }
  paranoid(nursery_is_exact(hub));
}

#endif
