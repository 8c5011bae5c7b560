/* fork.c: see fork.h. */
#include "fork.h"

#include "async.h"
#include "nursery.h"
#include "watchdog.h"

/* All hubs of the process; a child finds its own thread's among them. */
static struct link hubs = {&hubs, &hubs};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* It will not run again.  Its C stack and its Lua thread stay as they are, out of reach. */
static void forget_greenlet(struct hub *hub, struct greenlet *g) {
  wait_abandon(g);
  interrupt_drop_all(g);
  g->state = GREENLET_DEAD;
  g->results = 0;
  g->stack = NULL;
  if (g->nursery)
    nursery_leave(hub, g);
  if (list_linked(&g->alive)) {
    list_remove(&g->alive);
    hub->alive--;
  }
}

/* The greenlet that forked takes the main greenlet's place. */
static void inherit(struct hub *hub, struct greenlet *heir) {
  list_each(it, &hub->greenlets) {
    struct greenlet *g = container_of(it, struct greenlet, alive);
    if (g != heir)
      forget_greenlet(hub, g);
  }
  hub->pinned = 0;
  if (heir == hub->main)
    return;
  forget_greenlet(hub, hub->main);
  list_remove(&heir->alive);
  hub->alive--;
  hub->main = heir;
}

static void before(void) {
  pthread_mutex_lock(&lock);
  async_before_fork();
}

static void in_parent(void) {
  async_after_fork();
  pthread_mutex_unlock(&lock);
}

static void in_child(void) {
  in_parent();
  list_each(it, &hubs) {
    struct hub *hub = container_of(it, struct hub, sibling);
    if (!pthread_equal(hub->thread, pthread_self()))
      continue;
    ev_loop_fork(hub->loop);
    watchdog_forked(hub);
    if (hub->current && !hub->keep_at_fork)
      inherit(hub, hub->current);
  }
}

static void install(void) { pthread_atfork(before, in_parent, in_child); }

void fork_open(struct hub *hub) {
  pthread_once(&once, install);
  pthread_mutex_lock(&lock);
  list_append(&hubs, &hub->sibling);
  pthread_mutex_unlock(&lock);
}

void fork_close(struct hub *hub) {
  pthread_mutex_lock(&lock);
  list_remove(&hub->sibling);
  pthread_mutex_unlock(&lock);
}

/***
 * moonlet.keep_at_fork(on): whether all greenlets go on in a forked child too.
 * Without it only the greenlet that forked lives there.
 * @param on boolean
 * @return boolean # the setting before
 * Differs: all greenlets and timers go on in the child | only if keep_at_fork(true) was called
 */
static int l_keep_at_fork(lua_State *L) {
  struct hub *hub = hub_of(L);
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  lua_pushboolean(L, hub->keep_at_fork);
  hub->keep_at_fork = lua_toboolean(L, 1);
  return 1;
}

const luaL_Reg fork_functions[] = {{"keep_at_fork", l_keep_at_fork}, {NULL, NULL}};
