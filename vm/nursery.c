/* nursery.c: see nursery.h. */
#include "nursery.h"

enum { FIRST_ROOM = 256, MOST_ROOM = 2048 }; /* values, two or more for each greenlet */

void nursery_open(lua_State *L, struct hub *hub) {
  for (int i = 0; i < 2; i++) {
    struct nursery *nursery = &hub->nurseries[i];
    nursery->L = lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, nursery);
    luaL_checkstack(nursery->L, FIRST_ROOM + LUA_MINSTACK, NULL);
    nursery->room = FIRST_ROOM;
  }
  hub->nursery = &hub->nurseries[0];
}

/* The other one, if it has run dry; else the same grows. */
struct nursery *nursery_make_room(struct hub *hub) {
  struct nursery *nursery = hub->nursery, *other = &hub->nurseries[nursery == hub->nurseries];
  if (other->live == 0)
    return hub->nursery = other;
  int room = nursery->room * 2, more = room - nursery->used + LUA_MINSTACK;
  if (room > MOST_ROOM || !lua_checkstack(nursery->L, more))
    return NULL;
  nursery->room = room;
  return nursery;
}

void nursery_settle(struct hub *hub, struct greenlet *g) {
  for (int i = 0; i < g->args; i++) {
    lua_pushvalue(g->nursery->L, g->slot - g->args + i);
    lua_setiuservalue(g->nursery->L, g->slot, UV_ARGS + i);
  }
  nursery_push(hub->L, g);
  nursery_leave(hub, g);
  g->slot = hub_anchor(hub->L, hub);
}
