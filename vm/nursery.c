/* nursery.c: see nursery.h. */
#include "nursery.h"

#include "hub.h"

enum { FIRST_ROOM = 256, MOST_ROOM = 2048 }; /* values, two for each greenlet */

static void make(lua_State *L, struct nursery *nursery) {
  nursery->L = lua_newthread(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, nursery);
  luaL_checkstack(nursery->L, FIRST_ROOM + LUA_MINSTACK, NULL);
  nursery->room = FIRST_ROOM;
}

void nursery_open(lua_State *L, struct hub *hub) {
  for (int i = 0; i < 2; i++)
    make(L, &hub->nurseries[i]);
  hub->nursery = &hub->nurseries[0];
}

/* The one that new greenlets come into has no room left. */
static struct nursery *make_room(struct hub *hub) {
  struct nursery *other = &hub->nurseries[hub->nursery == hub->nurseries];
  if (other->live == 0)
    return hub->nursery = other;
  struct nursery *nursery = hub->nursery;
  if (nursery->room == MOST_ROOM || !lua_checkstack(nursery->L, nursery->room + LUA_MINSTACK))
    return NULL;
  nursery->room *= 2;
  return nursery;
}

bool nursery_take(lua_State *L, struct hub *hub, struct greenlet *g) {
  hub_set_aside(L, hub);
  struct nursery *nursery = hub->nursery;
  if (unlikely(nursery->used == nursery->room) && !(nursery = make_room(hub))) {
    hub->set_aside--;
    return false;
  }
  lua_xmove(L, nursery->L, 2);
  lua_pushvalue(nursery->L, -1);
  lua_xmove(nursery->L, L, 1);
  nursery->live++;
  g->nursery = nursery;
  g->slot = nursery->used += 2;
  return true;
}

void nursery_push_body(lua_State *to, const struct greenlet *g) {
  lua_State *from = g->nursery->L;
  lua_pushvalue(from, g->slot - 1);
  lua_xmove(from, to, 1);
}

void nursery_push(lua_State *L, const struct greenlet *g) {
  lua_State *from = g->nursery->L;
  lua_pushvalue(from, g->slot);
  lua_xmove(from, L, 1);
}

/* The last to leave clears it. */
static void leave(struct greenlet *g) {
  struct nursery *nursery = g->nursery;
  g->nursery = NULL;
  if (--nursery->live == 0) {
    lua_settop(nursery->L, 0);
    nursery->used = 0;
  }
}

void nursery_leave(struct hub *hub, struct greenlet *g) {
  hub->set_aside--;
  leave(g);
}

void nursery_settle(struct hub *hub, struct greenlet *g) {
  hub->set_aside--;
  nursery_push(hub->L, g);
  g->slot = hub_anchor(hub->L, hub);
  leave(g);
}
