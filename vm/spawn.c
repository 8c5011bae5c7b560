/* spawn.c: making and starting greenlets. */
#include "greenlet.h"

#include <string.h>

#include "nursery.h"

#define MOST_SPREAD 16 /* arguments kept in user values; more are in a table */

const char greenlet_key_spawners;

bool greenlet_is_callable(lua_State *L, int index) {
  if (lua_isfunction(L, index))
    return true;
  bool callable = luaL_getmetafield(L, index, "__call") != LUA_TNIL;
  if (callable)
    lua_pop(L, 1);
  return callable;
}

/* Greenlets that have spawned are in a weak table, so that a child can name its parent. */
static void note_spawner(lua_State *L, struct greenlet *parent) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &greenlet_key_spawners);
  greenlet_push(L, parent);
  lua_rawseti(L, -2, (lua_Integer)parent->id);
  lua_pop(L, 1);
  parent->spawner = true;
}

static inline void set_up(lua_State *L, struct hub *hub, struct greenlet *g) {
  struct greenlet *parent = hub->current;
  g->hub = hub;
  g->id = hub->next_id++;
  wait_setup(g);
  list_init(&g->aimed);
  list_init(&g->done);
  if (likely(parent != NULL)) {
    g->parent = parent->id;
    if (unlikely(!parent->spawner))
      note_spawner(L, parent);
  }
}

void greenlet_init(lua_State *L, void *object) { set_up(L, hub_of(L), object); }

/* The same as class_new, quicker: none is made more often. */
static inline struct greenlet *new_greenlet(lua_State *L, struct hub *hub, int nargs) {
  bool spread = nargs <= MOST_SPREAD;
  int values = UV_ARGS - 1 + (spread ? nargs : 0);
  struct greenlet *g = lua_newuserdatauv(L, greenlet_kind.size, values);
  memset(g, 0, greenlet_kind.size);
  g->object.kind = &greenlet_kind;
  g->args = nargs;
  g->spread = spread;
  set_up(L, hub, g);
  lua_pushvalue(hub->keeper, KEEPER_GREENLET);
  lua_xmove(hub->keeper, L, 1);
  lua_setmetatable(L, -2);
  return g;
}

static void check_open(lua_State *L, struct hub *hub) {
  if (unlikely(hub->closing))
    luaL_error(L, "cannot start a greenlet: the moonlet runtime is closing");
}

/* It is kept alive, and about to go on the run queue or a timer. */
static void schedule(struct hub *hub, struct greenlet *g) {
  g->state = GREENLET_SCHEDULED;
  list_append(&hub->greenlets, &g->alive);
  hub->alive++;
  hub->spawned++;
}

void greenlet_start(lua_State *L, int index, double delay, bool delayed) {
  struct greenlet *g = lua_touserdata(L, index);
  struct hub *hub = g->hub;
  assert(g->state == GREENLET_NEW);
  check_open(L, hub);
  if (delayed && !timers_reserve(&hub->timers))
    luaL_error(L, "not enough memory for a timer");
  lua_pushvalue(L, index);
  g->slot = hub_anchor(L, hub);
  schedule(hub, g);
  if (delayed)
    hub_start_timer(L, hub, &g->timer, delay);
  else
    hub_push(hub, &g->run);
}

/* Puts the function and the arguments that are below the Greenlet on top of the stack into it. */
static void keep_call(lua_State *L, int nargs) {
  lua_insert(L, -2 - nargs);
  greenlet_store_args(L, -2 - nargs, nargs);
  lua_setiuservalue(L, -2, UV_BODY);
}

struct greenlet *greenlet_spawn(lua_State *L, int nargs) {
  struct hub *hub = hub_of(L);
  check_open(L, hub);
  struct greenlet *g = new_greenlet(L, hub, nargs);
  if (unlikely(!g->spread || !nursery_take(L, hub, g))) {
    keep_call(L, nargs);
    lua_pushvalue(L, -1);
    g->slot = hub_anchor(L, hub);
  }
  schedule(hub, g);
  hub_push(hub, &g->run);
  return g;
}

struct greenlet *greenlet_spawn_later(lua_State *L, int nargs, double delay) {
  struct greenlet *g = new_greenlet(L, hub_of(L), nargs);
  keep_call(L, nargs);
  greenlet_start(L, lua_gettop(L), delay, true);
  return g;
}
