/* waiter.c: greenlets that wait for an event of a C program (see moonlet.h). */
#include <string.h>

#include "async.h"
#include "hub.h"

struct moonlet_waiter {
  struct wakeup wakeup; /* sent: unparked, and nobody has parked since */
  lua_State *L;         /* that made it */
  uint64_t maker;       /* the greenlet that did */
};

static int l_collect(lua_State *L) {
  moonlet_waiter *waiter = lua_touserdata(L, 1);
  wakeup_drop(&waiter->wakeup);
  return 0;
}

/* Scripts cannot reach its metatable: only the collector may call __gc. */
static void push_metatable(lua_State *L) {
  if (!luaL_newmetatable(L, "moonlet.Waiter"))
    return;
  lua_pushcfunction(L, l_collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

moonlet_waiter *moonlet_waiter_new(lua_State *L) {
  struct hub *hub = hub_of(L);
  luaL_checkstack(L, 6, NULL);
  push_metatable(L);
  moonlet_waiter *waiter = lua_newuserdatauv(L, sizeof *waiter, 1);
  int failure = wakeup_init(&waiter->wakeup, hub);
  if (failure)
    luaL_error(L, "cannot make a waiter: %s", strerror(failure));
  waiter->L = L;
  waiter->maker = hub->current ? hub->current->id : 0;
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
  lua_pushthread(L);
  lua_setiuservalue(L, -2, 1);
  return waiter;
}

/*
 * The state to raise errors in: the waiter's, if the current greenlet made it and it is
 * still at work there (it may be a coroutine of the script's), else the greenlet's own.
 */
static lua_State *parking_state(const moonlet_waiter *waiter, struct hub *hub) {
  const struct greenlet *g = hub->current ? hub->current : hub->main;
  lua_Debug frame;
  bool own = waiter->maker == g->id && lua_status(waiter->L) == LUA_OK &&
             lua_getstack(waiter->L, 0, &frame);
  return own ? waiter->L : g->L;
}

int moonlet_park(moonlet_waiter *waiter, double timeout) {
  static const struct wait_kind kind = {.name = "moonlet_unpark",
                                        .passes_on = true,
                                        .external = true,
                                        .enter = wakeup_enter,
                                        .leave = wakeup_leave};
  struct wakeup *wakeup = &waiter->wakeup;
  struct hub *hub = wakeup_hub(wakeup);
  if (!hub)
    return luaL_error(waiter->L, "the moonlet runtime of this waiter is closed");
  lua_State *L = parking_state(waiter, hub);
  double due = timeout >= 0 ? hub_now(hub) + timeout : NO_LIMIT;
  while (!atomic_exchange(&wakeup->sent, false))
    if (!wait_here(L, &wakeup->waiting, due == NO_LIMIT ? due : due - hub_now(hub), &kind))
      return atomic_exchange(&wakeup->sent, false);
  return 1;
}

void moonlet_unpark(moonlet_waiter *waiter) {
  atomic_store(&waiter->wakeup.sent, true);
  wait_notify(&waiter->wakeup.waiting);
}

void moonlet_unpark_async(moonlet_waiter *waiter) { wakeup_send(&waiter->wakeup); }
