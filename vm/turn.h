/*
 * turn.h: the first turn of a greenlet and its end, as far as they go the usual way; greenlet.c
 * has the rest.  Inline in the hub's loop.
 */
#ifndef MOONLET_TURN_H
#define MOONLET_TURN_H

#include <stdlib.h>

#include "nursery.h"

int turn_begin_slowly(struct hub *hub, struct greenlet *g);
int turn_end_slowly(struct hub *hub, struct greenlet *g, int status, int results);

/*
 * First turn: finds a thread and puts the body and its arguments on it.  Returns their
 * number for lua_resume, or -1 if memory ran out; the greenlet is dead then.
 */
static inline int turn_begin(struct hub *hub, struct greenlet *g) {
  if (unlikely(!g->nursery || !hub->idle_thread_count || lua_gethook(hub->main->L)))
    return turn_begin_slowly(hub, g);
  const struct hub_thread *thread = &hub->idle_threads[--hub->idle_thread_count];
  g->L = thread->L;
  g->thread_slot = thread->slot;
  nursery_push_call(g->L, g);
  return g->args;
}

/* Everybody who waits for it is told, in the order in which they came.  It is kept alive so far. */
static inline void turn_die(struct hub *hub, struct greenlet *g) {
  g->state = GREENLET_DEAD;
  g->L = g->blocked = NULL;
  if (unlikely(!list_empty(&g->aimed)))
    interrupt_drop_all(g);
  if (!list_empty(&g->done))
    wait_notify_all(&g->done);
  if (g->nursery)
    nursery_leave(hub, g);
  else
    hub_release(hub, g->slot);
  if (likely(list_linked(&g->alive))) {
    list_remove(&g->alive);
    hub->alive--;
  }
  if (unlikely(g == hub->main))
    exit(g->failed); /* only in a forked child has main a body that ends (fork.h) */
}

/*
 * Its thread has ended with `status`, or has yielded where it must not.  Returns -1, or the
 * number of arguments to resume its thread with: it is another one then, on which the
 * user's error handler runs.
 */
static inline int turn_end(struct hub *hub, struct greenlet *g, int status, int results) {
  bool much = g->nursery ? results > 1 : results > 0 || g->args > 0;
  if (unlikely(status != LUA_OK || g->unusual || much ||
               hub->idle_thread_count == HUB_IDLE_THREADS || lua_gethook(g->L)))
    return turn_end_slowly(hub, g, status, results);
  if (results) {
    g->results = 1;
    nursery_set(g, g->L, UV_OUTCOME);
  }
  paranoid(lua_gettop(g->L) == 0);
  paranoid(!list_linked(&g->run.link) && !timer_running(&g->timer));
  hub->idle_threads[hub->idle_thread_count++] = (struct hub_thread){g->L, g->thread_slot};
  hub_leave(hub);
  turn_die(hub, g);
  return -1;
}

#endif
