/* wait.c: how a greenlet waits, and is tried again or given up (see wait.h). */
#include "wait.h"

#include <float.h>

#include "coroutine.h"
#include "hub.h"
#include "timeout.h"

/* ---- rings ---- */

void waiter_join(struct hub *hub, struct link *ring, struct waiter *waiter) {
  waiter->ticket = hub->tickets++;
  list_append(ring, &waiter->link);
}

/* Those before it in the ring are the few that were woken and came back like it. */
void waiter_rejoin(struct link *ring, struct waiter *waiter) {
  struct link *place = ring->next;
  while (place != ring && container_of(place, struct waiter, link)->ticket < waiter->ticket)
    place = place->next;
  list_insert_before(place, &waiter->link);
}

bool wait_notify(struct link *ring) {
  if (list_empty(ring))
    return false;
  struct waiter *waiter = container_of(ring->next, struct waiter, link);
  waiter->notify(waiter);
  return true;
}

void wait_notify_all(struct link *ring) {
  while (wait_notify(ring))
    ;
}

/* ---- a greenlet's own waiter and timer ---- */

void wait_notified(struct waiter *waiter) {
  struct greenlet *g = container_of(waiter, struct greenlet, wait);
  list_remove(&waiter->link);
  g->notified = true;
  hub_push(g->hub, &g->run);
}

/* A greenlet that is ready already finds out when it runs: what woke it comes first.  Of many
   that slept the threads lie scattered in memory: each is fetched while others are woken. */
void wait_limit_reached(struct timer *timer) {
  struct greenlet *g = container_of(timer, struct greenlet, timer);
  __builtin_prefetch(g->L);
  g->timed_out = true;
  if (list_linked(&g->run.link))
    return;
  if (g->ring && list_linked(&g->wait.link))
    list_remove(&g->wait.link);
  hub_push(g->hub, &g->run);
}

void wait_undo(struct greenlet *g) {
  timer_stop(&g->hub->timers, &g->timer);
  if (list_linked(&g->wait.link))
    list_remove(&g->wait.link);
  if (list_linked(&g->run.link))
    list_remove(&g->run.link);
  if (g->notified && g->ring && g->waiting->passes_on)
    wait_notify(g->ring);
  g->notified = false;
}

void wait_abandon(struct greenlet *g) {
  const struct wait_kind *kind = g->waiting;
  g->notified = false;
  wait_undo(g);
  if (kind) {
    g->hub->refs -= kind->external;
    if (kind->leave && g->ring)
      kind->leave(g->ring);
  }
  g->waiting = NULL;
  g->ring = NULL;
}

/* ---- blocking ---- */

static void start_waiting(struct greenlet *g, struct link *ring, const struct wait_kind *kind) {
  g->waiting = kind;
  g->ring = ring;
  g->notified = g->timed_out = false;
  g->hub->refs += kind->external;
}

static void join(struct hub *hub, struct greenlet *g) {
  if (!g->ring)
    return;
  waiter_join(hub, g->ring, &g->wait);
  if (g->waiting->enter)
    g->waiting->enter(g->ring);
}

/* It runs again: whatever the wait has registered is taken back. */
static inline void end_waiting(struct greenlet *g) {
  const struct wait_kind *kind = g->waiting;
  struct link *ring = g->ring;
  if (timer_running(&g->timer))
    timer_stop(&g->hub->timers, &g->timer);
  g->ring = NULL;
  g->hub->refs -= kind->external;
  if (kind->leave)
    kind->leave(ring);
}

/* The greenlet runs again: finishes its operation, or goes back to its place in the ring. */
static int woken(lua_State *L, struct greenlet *g) {
  const struct wait_kind *kind = g->waiting;
  struct link *ring = g->ring;
  bool limited = timer_running(&g->timer), timed_out = g->timed_out, notified = g->notified;
  uint64_t ticket = g->wait.ticket;

  end_waiting(g);
  if (unlikely(g->interrupt != NULL))
    interrupt_raise(L, g);
  g->waiting = NULL;
  if (!kind->step)
    return 0;
  int results = kind->step(L, timed_out && !notified);
  if (results == WAIT_AGAIN && timed_out)
    results = kind->step(L, true);
  if (results != WAIT_AGAIN)
    return results;

  if (limited)
    hub_start_timer_at(L, g->hub, &g->timer, g->timer.due);
  start_waiting(g, ring, kind);
  g->wait.ticket = ticket;
  waiter_rejoin(ring, &g->wait);
  if (kind->enter)
    kind->enter(ring);
  return WAIT_AGAIN;
}

static int park(lua_State *L, struct greenlet *g);

static int resumed(lua_State *L, int status, lua_KContext top) {
  struct hub *hub = hub_running;
  struct greenlet *g = hub ? hub->current : NULL;
  (void)status;
  if (unlikely(!g || g->L != L))
    return coroutine_refuse(L, top, resumed);
  int results = woken(L, g);
  return likely(results != WAIT_AGAIN) ? results : park(L, g);
}

/* The same in a coroutine of the user's. */
static int resumed_inside(lua_State *L, int status, lua_KContext top) {
  struct greenlet *g = coroutine_woken(L, top);
  (void)status;
  if (unlikely(!g))
    return coroutine_refuse(L, top, resumed_inside);
  g->nested = false;
  int results = woken(L, g);
  return likely(results != WAIT_AGAIN) ? results : park(L, g);
}

static int park(lua_State *L, struct greenlet *g) {
  g->state = GREENLET_PARKED;
  g->blocked = L;
  if (unlikely(L != g->L))
    return coroutine_block(L, g, resumed_inside);
  return lua_yieldk(L, 0, lua_gettop(L), resumed);
}

/* A pinned greenlet runs again. */
static int pin_on(lua_State *L, struct hub *hub, struct greenlet *g) {
  int results;
  while ((results = woken(L, g)) == WAIT_AGAIN)
    hub_pin(hub, g, L);
  return results;
}

static int pin(lua_State *L, struct hub *hub, struct greenlet *g) {
  hub_pin(hub, g, L);
  return pin_on(L, hub, g);
}

int wait_in(lua_State *L, struct link *ring, double limit, const struct wait_kind *kind) {
  if (limit <= 0)
    return kind->step ? kind->step(L, true) : 0;
  struct hub *hub = hub_of(L);
  struct greenlet *parking = hub_parking(hub, L);
  struct greenlet *g = parking ? parking : hub_pinning(hub, L);
  if (limit != NO_LIMIT)
    hub_start_timer(L, hub, &g->timer, limit);
  start_waiting(g, ring, kind);
  join(hub, g);
  return parking ? park(L, g) : pin(L, hub, g);
}

int wait_for(lua_State *L, struct link *ring, int arg, const struct wait_kind *kind) {
  double limit = wait_limit(L, arg);
  int results = kind->step(L, false);
  return results != WAIT_AGAIN ? results : wait_in(L, ring, limit, kind);
}

bool wait_here(lua_State *L, struct link *ring, double limit, const struct wait_kind *kind) {
  assert(!kind->step);
  if (limit <= 0)
    return false;
  struct hub *hub = hub_of(L);
  struct greenlet *g = hub_pinning(hub, L);
  if (limit != NO_LIMIT)
    hub_start_timer(L, hub, &g->timer, limit);
  start_waiting(g, ring, kind);
  join(hub, g);
  pin(L, hub, g);
  return g->notified;
}

/* Its timer, or its turn; false: there is no memory for a timer. */
static bool limit_quietly(struct hub *hub, struct greenlet *g, double limit) {
  if (limit == NO_LIMIT || limit <= 0)
    return true;
  if (!timers_reserve(&hub->timers))
    return false;
  timer_start(&hub->timers, &g->timer, hub_due(hub, limit));
  return true;
}

/* Waits as registered; false: an interrupt has ended that, which is kept. */
static bool wait_out(lua_State *L, struct hub *hub, struct greenlet *g) {
  hub_pin(hub, g, L);
  end_waiting(g);
  g->waiting = NULL;
  if (!g->interrupt)
    return true;
  interrupt_keep(L, g);
  return false;
}

enum wait_end wait_quietly(struct hub *hub, struct link *ring, double limit,
                           const struct wait_kind *kind) {
  lua_State *L = hub_at_work(hub);
  struct greenlet *g = hub_pinning_quietly(hub, L);
  assert(!kind->step && (!ring || limit > 0));
  if (g && (interrupt_is_due(g) || (hub->closing && g != hub->main)))
    return WAIT_CANCELLED;
  if (!g || hub->closing || !limit_quietly(hub, g, limit))
    return WAIT_REFUSED;
  start_waiting(g, ring, kind);
  join(hub, g);
  if (limit <= 0)
    hub_push(hub, &g->run);
  if (!wait_out(L, hub, g))
    return WAIT_CANCELLED;
  return g->notified ? WAIT_NOTIFIED : WAIT_TIMED_OUT;
}

enum wait_end wait_firmly(struct hub *hub, struct link *ring, double limit,
                          const struct wait_kind *kind) {
  double due = limit == NO_LIMIT ? NO_LIMIT : hub_due(hub, limit);
  for (;;) {
    lua_State *L = hub_at_work(hub);
    struct greenlet *g = hub_pinning_quietly(hub, L);
    if (!g || (due != NO_LIMIT && !timers_reserve(&hub->timers)))
      return WAIT_REFUSED;
    if (hub->loop_exit.target == g)
      return WAIT_CANCELLED;
    if (due != NO_LIMIT)
      timer_start(&hub->timers, &g->timer, due);
    start_waiting(g, ring, kind);
    join(hub, g);
    if (wait_out(L, hub, g))
      return g->notified ? WAIT_NOTIFIED : WAIT_TIMED_OUT;
  }
}

/* The most frequent wait of all: nothing is registered but the turn in the run queue. */
static int turned(lua_State *L, int status, lua_KContext top) {
  struct hub *hub = hub_running;
  struct greenlet *g = likely(hub != NULL) ? hub->current : NULL;
  if (unlikely(!g || g->L != L || g->interrupt))
    return resumed(L, status, top);
  g->waiting = NULL;
  return 0;
}

static int pin_turn(lua_State *L, struct hub *hub, const struct wait_kind *kind) {
  struct greenlet *g = hub_pinning(hub, L);
  start_waiting(g, NULL, kind);
  hub_push(hub, &g->run);
  hub_pin(hub, g, L);
  if (unlikely(g->interrupt || kind->step))
    return pin_on(L, hub, g);
  g->waiting = NULL;
  return 0;
}

int wait_turn(lua_State *L, const struct wait_kind *kind) {
  struct hub *hub = hub_of(L);
  struct greenlet *g = hub_parking(hub, L);
  if (unlikely(!g))
    return pin_turn(L, hub, kind);
  g->waiting = kind;
  g->ring = NULL;
  g->timed_out = false;
  hub_push(hub, &g->run);
  if (unlikely(kind->step || L != g->L))
    return park(L, g);
  g->state = GREENLET_PARKED;
  g->blocked = L;
  return lua_yieldk(L, 0, 0, turned);
}

void wait_turn_here(lua_State *L, const struct wait_kind *kind) { pin_turn(L, hub_of(L), kind); }

/* ---- time limits ---- */

void wait_renew(struct greenlet *g, double limit) { g->timer.due = hub_due(g->hub, limit); }

double wait_limit_given(lua_State *L, int arg) {
  int is_number;
  double seconds = lua_tonumberx(L, arg, &is_number);
  if (is_number) {
    luaL_argcheck(L, seconds == seconds, arg, "timeout is not a number");
    return seconds < NO_LIMIT ? seconds : DBL_MAX;
  }
  const struct timeout *timeout = class_test(L, arg, &timeout_kind);
  if (!timeout)
    luaL_typeerror(L, arg, "number");
  luaL_argcheck(L, timeout->countdown, arg, "Timeout has not been started");
  return NO_LIMIT;
}
