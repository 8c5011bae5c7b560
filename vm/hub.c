/* hub.c: the run queue, polling, and the change between greenlets (see hub.h). */
#define _GNU_SOURCE
#include "hub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "sanitizer.h"
#include "turn.h"

/* libev is polled about so often while greenlets are busy, whatever they do in a turn. */
#define SLICE 0.001
#define MAX_BATCH 4096

/* While what polls have found is still being served, libev is left alone for so long: it would
   find the same descriptors again, at a cost for each. */
#define SERVICE 0.1

_Thread_local struct hub *hub_running;
const char hub_key;

/* ---- timers ---- */

void hub_start_timer_at(lua_State *L, struct hub *hub, struct timer *timer, double due) {
  if (!timers_reserve(&hub->timers))
    luaL_error(L, "not enough memory for a timer");
  timer_start(&hub->timers, timer, due);
}

/* ---- values kept alive ---- */

#define CHUNK_SLOTS 256 /* slot 0 is never used */

static int chunk_of(int slot) { return KEEPER_CHUNKS + slot / CHUNK_SLOTS; }

static int place_of(int slot) { return slot % CHUNK_SLOTS + 1; }

static void reserve_free_slots(lua_State *L, struct hub *hub) {
  int wanted = (hub->chunks + 1) * CHUNK_SLOTS;
  if (hub->free_room >= wanted)
    return;
  int *slots = realloc(hub->free_slots, (size_t)wanted * 2 * sizeof *slots);
  if (!slots)
    luaL_error(L, "not enough memory");
  hub->free_slots = slots;
  hub->free_room = wanted * 2;
}

/* A chunk's places are all filled at once, so that to set one allocates nothing.  What finalizers
   do while it is made may have added another. */
void hub_add_slots(lua_State *L, struct hub *hub) {
  lua_createtable(L, CHUNK_SLOTS, 0);
  for (int place = 1; place <= CHUNK_SLOTS; place++) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, -2, place);
  }
  reserve_free_slots(L, hub);
  if (!lua_checkstack(hub->keeper, LUA_MINSTACK))
    luaL_error(L, "not enough memory");
  int first = hub->chunks * CHUNK_SLOTS;
  hub->chunks++;
  lua_xmove(L, hub->keeper, 1);
  for (int slot = first + CHUNK_SLOTS - 1; slot >= first && slot > 0; slot--)
    hub->free_slots[hub->free_count++] = slot;
}

int hub_anchor(lua_State *L, struct hub *hub) {
  if (unlikely(hub->free_count <= hub->set_aside))
    hub_add_slots(L, hub);
  int slot = hub->free_slots[--hub->free_count];
  lua_xmove(L, hub->keeper, 1);
  lua_rawseti(hub->keeper, chunk_of(slot), place_of(slot));
  return slot;
}

/* The slot is only overwritten: nothing is allocated, so any context will do. */
void hub_release(struct hub *hub, int slot) {
  lua_pushboolean(hub->keeper, 0);
  lua_rawseti(hub->keeper, chunk_of(slot), place_of(slot));
  hub->free_slots[hub->free_count++] = slot;
}

void hub_push_anchored(lua_State *L, struct hub *hub, int slot) {
  lua_rawgeti(hub->keeper, chunk_of(slot), place_of(slot));
  lua_xmove(hub->keeper, L, 1);
}

/* ---- polling ---- */

/* Keeps libev's timer at the time of our earliest one, for one ev_run. */
static void arm_alarm(struct hub *hub, double delay) {
  ev_now_update(hub->loop);
  ev_timer_set(&hub->alarm, delay, 0.);
  ev_timer_start(hub->loop, &hub->alarm);
}

/* Chooses how many entries to run until the next poll, so that a slice's time passes. */
static void adapt_batch(struct hub *hub, double elapsed) {
  if (elapsed > 2 * SLICE)
    hub->batch = hub->batch > 1 ? hub->batch / 2 : 1;
  else if (elapsed < SLICE / 2 && hub->batch < MAX_BATCH)
    hub->batch *= 2;
}

/* One round of libev.  Returns the time after it: exactly, for whoever waited until a timer is
   due must find it so. */
static double run_loop(struct hub *hub, bool wait, double now) {
  double delay = hub->timers.count ? timers_next(&hub->timers) - now : 0;
  if (hub->timers.count && delay <= 0)
    wait = false;
  if (wait && hub->timers.count)
    arm_alarm(hub, delay);
  bool unsure = wait && io_any_untried(hub);
  wait = wait && !unsure;
  hub->polling = true;
  hub->loop_active = ev_run(hub->loop, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
  hub->polling = false;
  ev_timer_stop(hub->loop, &hub->alarm);
  if (unsure && list_empty(&hub->ready))
    io_verify_untried(hub); /* the next poll will wait */
  return wait && !hub->virtual_clock ? clock_exact(&hub->clock) : hub_now(hub);
}

void hub_poll(struct hub *hub, bool wait) {
  hub->polls++;
  if (!hub->sliced) {
    io_verify(hub);
    if (hub->hosted)
      host_forget(hub);
  }
  double now = hub_now(hub);
  if (now - hub->polled_at > hub->lag)
    hub->lag = now - hub->polled_at;
  if (!hub->sliced)
    now = run_loop(hub, wait, now);
  hub->polled_at = hub->waited_at = now;
  hub->unserved = io_take_found(hub);
  timers_expire(&hub->timers, now);
  hub->budget = hub->batch;
  cstack_trim(&hub->stacks);
}

/* While greenlets keep each other busy: lets timers and descriptors have their turn. */
static void poll_between(struct hub *hub) {
  double now = hub_now(hub);
  hub->unserved -= hub->batch;
  adapt_batch(hub, now - hub->polled_at);
  if (hub->unserved <= 0 || now - hub->waited_at > SERVICE || hub->sliced) {
    int rest = hub->unserved > 0 ? hub->unserved : 0;
    hub_poll(hub, false);
    hub->unserved += rest;
    return;
  }
  hub->polled_at = now;
  timers_expire(&hub->timers, now);
  hub->budget = hub->batch;
}

/* Nothing can become ready any more: whoever waited for that goes on, or main fails. */
static void run_dry(struct hub *hub) {
  if (!list_empty(&hub->drained)) {
    wait_notify_all(&hub->drained);
    return;
  }
  if (hub->hosted) {
    hub_poll(hub, true);
    if (!list_empty(&hub->ready) || hub->loop_active)
      return;
  }
  assert(hub->main->state == GREENLET_PINNED || hub->main->state == GREENLET_PARKED);
  interrupt_aim(&hub->loop_exit, hub->main);
  interrupt_send(hub, &hub->loop_exit);
}

/* Whether a timer or something outside may still wake somebody; the time limit of main's own
   wait for the end of all others does not count. */
static bool may_wake(const struct hub *hub) {
  uint32_t own = !list_empty(&hub->drained) && timer_running(&hub->main->timer);
  return hub->refs > 0 || hub->timers.count > own;
}

/* The run queue is empty. */
static void wait_for_events(struct hub *hub) {
  if (!list_empty(&hub->idlers)) {
    hub_poll(hub, false);
    if (list_empty(&hub->ready))
      wait_notify_all(&hub->idlers);
  } else if (!may_wake(hub)) {
    run_dry(hub);
  } else if (hub->virtual_clock && hub->timers.count) {
    hub_poll(hub, false);
    if (list_empty(&hub->ready)) {
      if (timers_next(&hub->timers) > hub->virtual_now)
        hub->virtual_now = timers_next(&hub->timers);
      timers_expire(&hub->timers, hub->virtual_now);
    }
  } else {
    hub_poll(hub, true);
  }
}

/* ---- choosing what runs ---- */

/* A random entry of the run queue, the same for the same seed (xorshift64). */
static struct link *shuffled(struct hub *hub) {
  uint64_t count = 0;
  list_each(it, &hub->ready) count++;
  hub->shuffle ^= hub->shuffle << 13;
  hub->shuffle ^= hub->shuffle >> 7;
  hub->shuffle ^= hub->shuffle << 17;
  struct link *chosen = hub->ready.next;
  for (uint64_t skip = hub->shuffle % count; skip > 0; skip--)
    chosen = chosen->next;
  return chosen;
}

static struct greenlet *find_ready(struct hub *hub) {
  for (;;) {
    if (unlikely(list_empty(&hub->ready))) {
      wait_for_events(hub);
      continue;
    }
    if (unlikely(--hub->budget <= 0))
      poll_between(hub);
    struct link *first = unlikely(hub->shuffle) ? shuffled(hub) : hub->ready.next;
    struct runnable *entry = container_of(first, struct runnable, link);
    list_remove(first);
    if (likely(entry->run == NULL))
      return container_of(entry, struct greenlet, run);
    struct greenlet *g = entry->run(hub, entry);
    if (g)
      return g;
  }
}

static inline struct greenlet *next_ready(struct hub *hub) {
  struct link *first = hub->ready.next;
  struct runnable *entry = container_of(first, struct runnable, link);
  if (unlikely(first == &hub->ready || entry->run || hub->budget <= 1 || hub->shuffle))
    return find_ready(hub);
  hub->budget--;
  list_remove(first);
  return container_of(entry, struct greenlet, run);
}

/* ---- changing between greenlets ---- */

/* Continues a pinned greenlet on the stack it kept. */
static void jump_to_pinned(struct hub *hub, struct greenlet *g) {
  struct cstack *from = hub->stack, *to = g->stack;
  g->stack = NULL;
  hub->stack = to;
  cstack_jump(&hub->stacks, from, to);
}

/* Hands `g` to the hub's loop on an idle stack. */
static void jump_to_loop(struct hub *hub, struct greenlet *g) {
  struct cstack *from = hub->stack, *to = cstack_take(&hub->stacks);
  hub->handoff = g;
  hub->stack = to;
  cstack_jump(&hub->stacks, from, to);
}

void hub_pin(struct hub *hub, struct greenlet *g, lua_State *L) {
  if (unlikely(g->nursery != NULL))
    nursery_settle(hub, g);
  struct cstack *own = hub->stack;
  lua_State *running = hub->running, *parkable = hub->parkable;
  g->state = GREENLET_PINNED;
  g->blocked = L;
  hub->pinned++;
  hub_leave(hub);
  struct greenlet *next = next_ready(hub);
  if (next != g) {
    g->stack = own;
    if (next->stack)
      jump_to_pinned(hub, next);
    else
      jump_to_loop(hub, next);
  }
  assert(hub->stack == own && g->stack == NULL);
  hub_running = hub;
  hub->switches++;
  hub->pinned--;
  hub->running = running;
  hub->parkable = parkable;
  hub->current = g;
  g->state = GREENLET_RUNNING;
}

/* One turn of a greenlet that holds no C stack.  It may pin this one meanwhile; when
   lua_resume returns, this stack runs the same greenlet again. */
static void take_turn(struct hub *hub, struct greenlet *g) {
  int args = 0, results;
  if (unlikely(g->state == GREENLET_SCHEDULED) && (args = turn_begin(hub, g)) < 0)
    return;
  hub_running = hub;
  hub->parkable = g->L;
  hub->current = g;
  hub->switches++;
  g->state = GREENLET_RUNNING;
  int status = lua_resume(g->L, NULL, args, &results);
  assert(hub->current == g);
  while (unlikely(status != LUA_YIELD || g->state != GREENLET_PARKED)) {
    if ((args = turn_end(hub, g, status, results)) < 0)
      return;
    status = lua_resume(g->L, NULL, args, &results);
  }
  if (unlikely(g->nursery != NULL))
    nursery_settle(hub, g);
  hub_leave(hub);
}

void hub_loop(void *argument) {
  struct hub *hub = argument;
  struct cstack *self = hub->stack;
  cstack_arrived(&hub->stacks);
  for (;;) {
    struct greenlet *g = hub->handoff;
    hub->handoff = NULL;
    if (!g)
      g = next_ready(hub);
    if (g->stack) {
      cstack_give(&hub->stacks, self);
      jump_to_pinned(hub, g);
    } else {
      take_turn(hub, g);
    }
  }
}

/* ---- who may block ---- */

struct hub *hub_find(lua_State *L) {
  luaL_checkstack(L, 4, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hub_key);
  struct hub **box = lua_touserdata(L, -1);
  struct hub *hub = box ? *box : NULL;
  lua_pop(L, 1);
  if (!hub || hub->closed)
    luaL_error(L, "the moonlet runtime of this Lua state is %s", hub ? "closed" : "not open");
  if (!pthread_equal(hub->thread, pthread_self()))
    luaL_error(L, "this Lua state belongs to another thread: the moonlet runtime in it can only "
                  "be used by the thread that opened it");
  hub_running = hub;
  return hub;
}

struct hub *hub_peek(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hub_key);
  struct hub **box = lua_touserdata(L, -1);
  struct hub *hub = box ? *box : NULL;
  lua_pop(L, 1);
  return hub && !hub->closed && pthread_equal(hub->thread, pthread_self()) ? hub : NULL;
}

static inline bool on_own_stack(const struct hub *hub) {
#ifndef HAVE_ASAN
  const char *here = __builtin_frame_address(0);
  const struct cstack *stack = hub->stack;
  return !stack->map || (here >= stack->low && here <= stack->high);
#else
  (void)hub;
  return true;
#endif
}

/* Code that jumped out of a C stack has left the hub in a state that nothing can mend. */
static inline void check_stack(struct hub *hub) {
  if (!on_own_stack(hub)) {
    fprintf(stderr, "moonlet: a C function has jumped from one C stack to another\n");
    abort();
  }
}

/* It goes on trying to block while the runtime closes: its stack is left for good. */
static _Noreturn void abandon(struct hub *hub, struct greenlet *g) {
  g->state = GREENLET_DEAD;
  list_remove(&g->alive);
  hub->alive--;
  interrupt_drop_all(g);
  hub_leave(hub);
  struct greenlet *next = next_ready(hub);
  if (next->stack)
    jump_to_pinned(hub, next);
  else if (cstack_reserve(&hub->stacks))
    jump_to_loop(hub, next);
  abort();
}

static _Noreturn void refuse_closing(struct hub *hub, lua_State *L, struct greenlet *g) {
  if (g != hub->main && ++g->refused > 3)
    abandon(hub, g);
  greenlet_push_exit(L, "cannot block: the moonlet runtime is closing");
  lua_error(L);
  __builtin_unreachable();
}

/* Why nothing can block in L, whoever asks for it; NULL: it can. */
static inline const char *why_not(const struct hub *hub, lua_State *L) {
  const struct greenlet *g = hub->current;
  if (lua_gc(L, LUA_GCCOUNT) == -1)
    return "cannot block in a __gc finalizer";
  if (!g)
    return "cannot block here: called by the hub itself";
  if (L == hub->main->L && g != hub->main)
    return "cannot block on the main Lua state while another greenlet runs";
  if (hub->hosted && hub->sliced == false && g == hub->main && ev_depth(hub->loop) > 0)
    return "cannot block inside a callback of the host's loop: spawn a greenlet there";
  return NULL;
}

struct greenlet *hub_pinning(struct hub *hub, lua_State *L) {
  struct greenlet *g = hub->current;
  const char *reason = why_not(hub, L);
  if (reason)
    luaL_error(L, "%s", reason);
  if (hub->closing)
    refuse_closing(hub, L, g);
  interrupt_check(L, g);
  check_stack(hub);
  if (!cstack_reserve(&hub->stacks))
    luaL_error(L, "cannot map a C stack for %s: %s (%d are in use)",
               (greenlet_name(L, g), lua_tostring(L, -1)), strerror(errno), hub->stacks.count);
  return g;
}

struct greenlet *hub_pinning_quietly(struct hub *hub, lua_State *L) {
  if (why_not(hub, L) || !on_own_stack(hub) || !cstack_reserve(&hub->stacks))
    return NULL;
  return hub->current;
}
