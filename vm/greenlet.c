/* greenlet.c: a greenlet's life, from its first turn to its end (see hub.h). */
#include "greenlet.h"

#include "callout/keys.h"
#include "protect.h"
#include "report.h"
#include "turn.h"

void greenlet_push(lua_State *L, struct greenlet *g) {
  if (g->nursery)
    nursery_push(L, g);
  else
    hub_push_anchored(L, g->hub, g->slot);
}

/* ---- threads ---- */

/* Arguments: the hub and where to put the new thread, both light userdata. */
static int new_thread(lua_State *L) {
  struct hub_thread *thread = lua_touserdata(L, 2);
  thread->L = lua_newthread(L);
  thread->slot = hub_anchor(L, lua_touserdata(L, 1));
  return 0;
}

/* Gives the greenlet a thread; false if memory ran out. */
static bool take_thread(struct hub *hub, struct greenlet *g) {
  struct hub_thread thread;
  if (likely(hub->idle_thread_count > 0)) {
    thread = hub->idle_threads[--hub->idle_thread_count];
  } else {
    lua_pushcfunction(hub->L, new_thread);
    lua_pushlightuserdata(hub->L, hub);
    lua_pushlightuserdata(hub->L, &thread);
    if (lua_pcall(hub->L, 2, 0, 0) != LUA_OK) {
      lua_pop(hub->L, 1);
      return false;
    }
  }
  g->L = thread.L;
  g->thread_slot = thread.slot;
  return true;
}

static void drop_thread(struct hub *hub, struct greenlet *g) {
  if (unlikely(g->identified)) {
    lua_rawgeti(hub->L, LUA_REGISTRYINDEX, hub->identified);
    lua_pushnil(hub->L);
    lua_rawsetp(hub->L, -2, g->L);
    lua_pop(hub->L, 1);
  }
  hub_release(hub, g->thread_slot);
  g->L = NULL;
}

/* ---- the end ---- */

/* It may be on its way to a turn. */
static void become_dead(struct hub *hub, struct greenlet *g) {
  timer_stop(&hub->timers, &g->timer);
  if (list_linked(&g->run.link))
    list_remove(&g->run.link);
  turn_die(hub, g);
}

/* The outcome of the Greenlet at `index` is an error, unless that is an exit. */
static void settle(lua_State *L, struct greenlet *g, int index) {
  lua_getiuservalue(L, index, UV_OUTCOME);
  g->results = 1;
  g->failed = !greenlet_is_exit(L, -1);
  lua_pop(L, 1);
}

/* Pushes the Greenlet at `index`, its error and the error's traceback. */
static void push_failure(lua_State *L, int index) {
  luaL_checkstack(L, 8, NULL);
  lua_pushvalue(L, index);
  lua_getiuservalue(L, index, UV_OUTCOME);
  greenlet_get_private(L, index, &greenlet_key_traceback);
}

/* It has failed without having run: the error handler runs where it was killed. */
static void report_unborn(lua_State *L, struct greenlet *g, int index) {
  bool handled = !g->hub->closing && report_push_handler(L);
  push_failure(L, index);
  if (!handled) {
    report_print(L);
  } else if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
    lua_pushvalue(L, index);
    lua_insert(L, -2);
    lua_pushliteral(L, "(raised by the error handler)");
    report_print(L);
  }
}

void greenlet_cancel(lua_State *L, struct greenlet *g) {
  int index = lua_gettop(L) - 1;
  assert(lua_touserdata(L, index) == g);
  greenlet_drop_args(L, index);
  lua_setiuservalue(L, index, UV_OUTCOME);
  lua_pushnil(L);
  lua_setiuservalue(L, index, UV_BODY);
  settle(L, g, index);
  if (g->state == GREENLET_NEW) {
    lua_pushvalue(L, index);
    g->slot = hub_anchor(L, g->hub);
  }
  become_dead(g->hub, g);
  if (g->failed)
    report_unborn(L, g, index);
}

/* Sets a user value from the top of the hub's stack; allocates nothing. */
static void set_value(struct hub *hub, struct greenlet *g, int value) {
  greenlet_push(hub->L, g);
  lua_insert(hub->L, -2);
  lua_setiuservalue(hub->L, -2, value);
  lua_pop(hub->L, 1);
}

/* Arguments: light userdata of the greenlet, which is still anchored, and the status. */
static int capture(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, 1);
  int status = (int)lua_tointeger(L, 2);
  greenlet_push(L, g);
  if (status == LUA_YIELD) {
    lua_pushliteral(L, "attempt to yield from outside a coroutine");
  } else {
    if (interrupt_push_kept(L, g)) {
      lua_xmove(L, g->L, 1);
      lua_replace(g->L, -2);
    }
    lua_pushvalue(g->L, -1);
    lua_xmove(g->L, L, 1);
  }
  greenlet_drop_args(L, 3);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 3, UV_OUTCOME);
  if (!greenlet_is_exit(L, 4)) {
    protect_push_traceback(L, 4, g->L, 0);
    lua_pushvalue(L, -1);
    protect_remember(L, 4);
    greenlet_set_private(L, 3, &greenlet_key_traceback);
  }
  return 0;
}

/*
 * The user's error handler, if there is one, runs as the greenlet's last deed, on another
 * thread: it may block like everything.  Leaves there the handler and its arguments.
 */
static int settle_protected(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, 1);
  greenlet_push(L, g);
  settle(L, g, 3);
  if (!g->failed)
    return 0;
  bool handled = !g->hub->closing && report_push_handler(L);
  push_failure(L, 3);
  if (handled && take_thread(g->hub, g))
    lua_xmove(L, g->L, 4);
  else
    report_print(L);
  return 0;
}

/* The error handler has failed itself: its error is on top of the greenlet's thread. */
static int print_protected(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, 1);
  greenlet_push(L, g);
  lua_pushvalue(g->L, -1);
  lua_xmove(g->L, L, 1);
  if (!greenlet_is_exit(L, -1)) {
    protect_push_traceback(L, -1, g->L, 0);
    report_print(L);
  }
  return 0;
}

static int store_protected(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, 1);
  int count = (int)lua_tointeger(L, 2);
  greenlet_push(L, g);
  luaL_checkstack(L, count + 4, NULL);
  lua_xmove(g->L, L, count);
  greenlet_store(L, 3, count);
  return 0;
}

/* Runs one of the above on the hub's thread; what it raises (out of memory) is lost. */
static int in_hub(struct hub *hub, lua_CFunction f, struct greenlet *g, int number) {
  lua_State *L = hub->L;
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, g);
  lua_pushinteger(L, number);
  int status = lua_pcall(L, 2, 0, 0);
  if (status != LUA_OK)
    lua_pop(L, 1);
  return status;
}

static int cancel_protected(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, 1);
  greenlet_push(L, g);
  lua_pushliteral(L, "not enough memory");
  greenlet_cancel(L, g);
  return 0;
}

static int out_of_memory(struct hub *hub, struct greenlet *g) {
  if (in_hub(hub, cancel_protected, g, 0) != LUA_OK && g->state != GREENLET_DEAD) {
    g->failed = true;
    become_dead(hub, g);
  }
  return -1;
}

/* The function, and the Greenlet itself if that is a method of it. */
static void move_body(struct hub *hub, struct greenlet *g, lua_State *to) {
  lua_State *from = hub->keeper;
  greenlet_push(from, g);
  lua_getiuservalue(from, -1, UV_BODY);
  lua_xmove(from, to, 1);
  lua_pushnil(from);
  lua_setiuservalue(from, -2, UV_BODY);
  if (g->method)
    lua_xmove(from, to, 1);
  else
    lua_pop(from, 1);
}

static void push_arguments(struct hub *hub, struct greenlet *g, lua_State *to) {
  lua_State *from = hub->keeper;
  greenlet_push(from, g);
  for (int i = 0; i < g->args; i++) {
    lua_getiuservalue(from, -1, g->spread ? UV_ARGS + i : UV_OUTCOME);
    if (!g->spread && g->args > 1) {
      lua_rawgeti(from, -1, i + 1);
      lua_remove(from, -2);
    }
    lua_xmove(from, to, 1);
  }
  lua_pop(from, 1);
}

int turn_begin_slowly(struct hub *hub, struct greenlet *g) {
  if (!take_thread(hub, g))
    return out_of_memory(hub, g);
  lua_State *to = g->L;
  if (g->args > LUA_MINSTACK - 4 && !lua_checkstack(to, g->args + 4)) {
    drop_thread(hub, g);
    return out_of_memory(hub, g);
  }
  if (lua_gethook(hub->main->L))
    lua_sethook(to, lua_gethook(hub->main->L), lua_gethookmask(hub->main->L),
                lua_gethookcount(hub->main->L));
  if (g->nursery) {
    nursery_push_call(to, g);
  } else {
    move_body(hub, g, to);
    if (g->args > 0)
      push_arguments(hub, g, to);
  }
  return g->args + g->method;
}

/* Closes the <close> variables of a thread that has failed, and lets it go. */
static void discard_thread(struct hub *hub, struct greenlet *g, bool keep_error) {
  if (hub_close_thread(g->L, NULL) != LUA_OK && keep_error) {
    lua_xmove(g->L, hub->L, 1);
    set_value(hub, g, UV_OUTCOME);
  }
  drop_thread(hub, g);
}

/*
 * The error and its traceback are taken while the thread still stands as it was; then
 * its <close> variables are closed, which may block (the greenlet is current all the
 * while) or raise another error.
 */
static void end_by_error(struct hub *hub, struct greenlet *g, int status) {
  in_hub(hub, capture, g, status);
  discard_thread(hub, g, true);
  interrupt_drop_all(g);
  g->results = 1;
  g->failed = true;
  hub_leave(hub);
  in_hub(hub, settle_protected, g, 0);
}

/* A thread that ended well can run another function, unless somebody may know it. */
static void recycle(struct hub *hub, struct greenlet *g) {
  lua_State *thread = g->L;
  lua_settop(thread, 0);
  if (g->identified || hub->idle_thread_count == HUB_IDLE_THREADS) {
    drop_thread(hub, g);
    return;
  }
  if (unlikely(lua_gethook(thread) != NULL))
    lua_sethook(thread, NULL, 0, 0);
  hub->idle_threads[hub->idle_thread_count++] = (struct hub_thread){thread, g->thread_slot};
}

/* Puts the results where they can be asked for; the arguments go. */
static void keep_results(struct hub *hub, struct greenlet *g, int results) {
  if (g->args > 0) {
    greenlet_push(hub->L, g);
    greenlet_drop_args(hub->L, -1);
    lua_pop(hub->L, 1);
  }
  g->results = results;
  if (results > 1) {
    if (in_hub(hub, store_protected, g, results) != LUA_OK)
      g->results = 0;
  } else if (results == 1) {
    lua_xmove(g->L, hub->L, 1);
    set_value(hub, g, UV_OUTCOME);
  }
}

int turn_end_slowly(struct hub *hub, struct greenlet *g, int status, int results) {
  if (unlikely(g->reporting)) {
    if (status != LUA_OK) {
      in_hub(hub, print_protected, g, 0);
      discard_thread(hub, g, false);
    } else {
      recycle(hub, g);
    }
  } else if (likely(status == LUA_OK)) {
    keep_results(hub, g, results);
    recycle(hub, g);
  } else {
    end_by_error(hub, g, status);
    if (g->L) {
      g->reporting = true;
      g->state = GREENLET_RUNNING;
      hub->current = g;
      hub->parkable = g->L;
      return 3;
    }
  }
  hub_leave(hub);
  if (unlikely(g->threadlike))
    callout_end_values(g);
  if (unlikely(g->localized)) {
    lua_pushnil(hub->L);
    set_value(hub, g, UV_LOCALS);
  }
  become_dead(hub, g);
  return -1;
}
