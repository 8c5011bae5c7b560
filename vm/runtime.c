/* runtime.c: opening and closing the runtime of a Lua state. */
#define _GNU_SOURCE
#include "hub.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "async.h"
#include "fork.h"
#include "greenlet.h"
#include "guards.h"
#include "io.h"
#include "nursery.h"
#include "overflow.h"
#include "signals.h"
#include "timeout.h"
#include "watchdog.h"

/* ---- opening ---- */

static void on_alarm(struct ev_loop *loop, ev_timer *watcher, int revents) {
  (void)loop, (void)watcher, (void)revents; /* whoever polls looks at the timers afterwards */
}

/* The hub's own thread, and its tables. */
static void make_thread(lua_State *L, struct hub *hub) {
  hub->L = lua_newthread(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, hub);
  luaL_checkstack(hub->L, 64, NULL);
  hub->keeper = lua_newthread(hub->L);
  lua_rawsetp(hub->L, LUA_REGISTRYINDEX, hub->keeper);
  class_push(hub->L, &greenlet_kind);
  class_push(hub->L, &timeout_kind);
  lua_xmove(hub->L, hub->keeper, 2);
  nursery_open(hub->L, hub);
  lua_newtable(hub->L);
  hub->identified = luaL_ref(hub->L, LUA_REGISTRYINDEX);
}

static void make_spawners(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &greenlet_key_spawners);
}

/* The main greenlet is whatever the thread that opens the runtime is doing. */
static void make_main(lua_State *L, struct hub *hub) {
  struct greenlet *g = class_new(L, &greenlet_kind);
  g->slot = hub_anchor(L, hub);
  g->state = GREENLET_RUNNING;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  g->L = lua_tothread(L, -1);
  lua_pop(L, 1);
  hub->main = hub->current = g;
  hub->parkable = g->L;
}

/* A Timeout that a later finalizer cancels is not running any more. */
static void drop_interrupts(struct hub *hub) {
  list_each(it, &hub->greenlets) interrupt_drop_all(container_of(it, struct greenlet, alive));
  if (hub->main)
    interrupt_drop_all(hub->main);
}

/* No greenlet will run again.  Finalizers that are still to come may have some of them. */
static void forget_greenlets(struct hub *hub) {
  list_each(it, &hub->greenlets) container_of(it, struct greenlet, alive)->state = GREENLET_DEAD;
  list_init(&hub->greenlets);
  hub->alive = 0;
}

/* From lua_close: other finalizers have run already, so no greenlet may run again. */
static int l_collect(lua_State *L) {
  struct hub **box = lua_touserdata(L, 1);
  struct hub *hub = *box;
  if (!hub)
    return 0;
  *box = NULL;
  drop_interrupts(hub);
  forget_greenlets(hub);
  hub->closing = hub->closed = true;
  fork_close(hub);
  watchdog_close(hub);
  async_close(hub);
  signals_close(hub);
  io_close(hub);
  if (hub->hosted)
    host_detach(hub);
  ev_timer_stop(hub->loop, &hub->alarm);
  if (!hub->hosted)
    ev_loop_destroy(hub->loop);
  overflow_close(hub);
  cstack_pool_clear(&hub->stacks, hub->stack);
  timers_clear(&hub->timers);
  timeouts_close(hub);
  free(hub->free_slots);
  free(hub->idle_threads);
  if (hub_running == hub)
    hub_running = NULL;
  return 0;
}

static void *checked_realloc(void *block, long size) {
  if (size)
    return realloc(block, (size_t)size);
  free(block);
  return NULL;
}

/* Once in the process: other threads may be at work with theirs. */
static void set_allocator(void) { ev_set_allocator(checked_realloc); }

/* Pushes a box that owns the new hub, whose memory lasts until all finalizers have run. */
static struct hub *allocate(lua_State *L, struct ev_loop *loop) {
  struct hub **box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = NULL;
  struct hub *hub = lua_newuserdatauv(L, sizeof *hub, 0);
  memset(hub, 0, sizeof *hub);
  lua_setiuservalue(L, -2, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_collect);
  lua_setfield(L, -2, "__gc");
  struct hub_thread *threads = calloc(HUB_IDLE_THREADS, sizeof *threads);
  struct ev_loop *own = NULL;
  if (!loop) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_allocator);
    own = ev_loop_new(EVFLAG_AUTO);
  }
  if (!threads || (!loop && !own)) {
    free(threads);
    luaL_error(L, "cannot open the moonlet runtime: no event loop, or out of memory");
  }
  hub->loop = loop ? loop : own;
  hub->hosted = loop != NULL;
  hub->idle_threads = threads;
  *box = hub;
  return hub;
}

/* C stacks have 4 MB of address space each; MOONLET_STACK_KB in the environment changes that. */
static size_t stack_size(void) {
  const char *text = getenv("MOONLET_STACK_KB");
  size_t size = text ? (size_t)strtoul(text, NULL, 10) << 10 : CSTACK_DEFAULT_SIZE;
  return size < CSTACK_MIN_SIZE ? CSTACK_MIN_SIZE : size;
}

static void set_up(struct hub *hub) {
  list_init(&hub->ready);
  list_init(&hub->greenlets);
  list_init(&hub->idlers);
  list_init(&hub->drained);
  timers_init(&hub->timers);
  cstack_pool_init(&hub->stacks, hub_loop, hub);
  hub->stacks.size = stack_size();
  hub->stack = &hub->native;
  hub->batch = hub->budget = 64;
  hub->thread = pthread_self();
  hub->polled_at = hub_now(hub);
  ev_init(&hub->alarm, on_alarm);
  errors_open(hub);
}

/* What may fail for want of memory, once the hub is known to the state.  Argument: the hub. */
static int l_build(lua_State *L) {
  struct hub *hub = lua_touserdata(L, 1);
  luaL_checkstack(L, 16, NULL);
  if (!hub->io)
    luaL_error(L, "not enough memory");
  make_thread(L, hub);
  make_spawners(L);
  class_push(L, &greenlet_kind);
  luaL_setfuncs(L, greenlet_link_methods, 0);
  make_main(L, hub);
  guards_install(L, hub);
  return 0;
}

/* A new hub in the state, or an error and none. */
static struct hub *build(lua_State *L, struct ev_loop *loop) {
  struct hub *hub = allocate(L, loop);
  set_up(hub);
  io_open(hub);
  async_open(hub);
  signals_open(hub);
  overflow_open(hub);
  fork_open(hub);
  if (hub->hosted)
    host_attach(hub);
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &hub_key);
  hub_running = hub;
  lua_pushcfunction(L, l_build);
  lua_pushlightuserdata(L, hub);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    hub_running = NULL;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &hub_key);
    lua_error(L);
  }
  return hub;
}

/* Writing where nobody reads is an error like others; a program's own handling of it stays. */
static void ignore_sigpipe(void) {
  struct sigaction now;
  if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
    signal(SIGPIPE, SIG_IGN);
}

struct hub *hub_open(lua_State *L, struct ev_loop *loop) {
  luaL_checkstack(L, 16, NULL);
  if (lua_version(L) != LUA_VERSION_NUM)
    luaL_error(L, "moonlet was built for Lua %d.%d", LUA_VERSION_NUM / 100, LUA_VERSION_NUM % 100);
  bool open = lua_rawgetp(L, LUA_REGISTRYINDEX, &hub_key) == LUA_TUSERDATA;
  lua_pop(L, 1);
  if (!open) {
    ignore_sigpipe();
    return build(L, loop);
  }
  struct hub *hub = hub_find(L);
  if (loop)
    luaL_error(L, "the moonlet runtime is open already");
  if (hub->closing)
    luaL_error(L, "the moonlet runtime of this Lua state is closed");
  return hub;
}

static int l_open(lua_State *L) {
  hub_open(L, lua_touserdata(L, 1));
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  return 0;
}

int moonlet_open(lua_State *L, struct ev_loop *loop) {
  lua_pushcfunction(L, l_open);
  lua_pushlightuserdata(L, loop);
  return lua_pcall(L, 1, 0, 0);
}

/* ---- closing ---- */

/* Sends an exit to every greenlet but the one that closes; those that never ran never will. */
static void kill_all(lua_State *L, struct hub *hub, struct greenlet *closer) {
  list_each(it, &hub->greenlets) {
    struct greenlet *g = container_of(it, struct greenlet, alive);
    if (g == closer)
      continue;
    greenlet_push(L, g);
    lua_pushnil(L);
    greenlet_kill(L);
  }
}

/*
 * Each greenlet ends by an exit raised where it blocks, on its own stack.  One that goes
 * on trying to block is left behind after a few errors (hub.c), so the loop ends.
 */
void hub_shutdown(struct hub *hub, lua_State *L) {
  struct greenlet *closer = hub->current;
  if (hub->closing || !closer)
    return;
  hub->closing = hub->special = true;
  kill_all(L, hub, closer);
  int rest = closer == hub->main ? 0 : 1;
  for (int turns = 0; hub->alive > rest && turns < 8 && cstack_reserve(&hub->stacks); turns++) {
    static const struct wait_kind kind = {.name = "the end of all others"};
    closer->waiting = &kind;
    hub_push(hub, &closer->run);
    hub_pin(hub, closer, L);
    closer->waiting = NULL;
  }
}

static int l_close(lua_State *L) {
  hub_shutdown(hub_find(L), L);
  return 0;
}

void moonlet_close(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hub_key);
  struct hub **box = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (!box || !*box)
    return;
  lua_pushcfunction(L, l_close);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK)
    lua_pop(L, 1);
}
