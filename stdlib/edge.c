/* edge.c: moonlet.edge.core, waits for objects that tell of changes at the edge (see edge.h). */
#include "edge.h"

#include <lauxlib.h>

#include "hub.h"
#include "io.h"

MOONLET_API int luaopen_moonlet_edge_core(lua_State *L);

/* After so many operations that did not have to wait, the others have a turn. */
#define MAX_UNBROKEN 200

/* A vague object may be ready for a message without telling: seconds until it is tried anyway. */
#define VAGUE_PAUSE 0.02

/* A method's upvalue. */
struct method {
  struct wait_kind wait, turn;
  const struct edge_operation *operation;
};

/* ---- telling those who wait ---- */

/* Those who wait for the descriptor itself (select) would not learn of it otherwise. */
static void tell_selectors(struct edge *edge) {
  bool watching = list_linked(&edge->watch.link);
  if (watching)
    list_remove(&edge->watch.link);
  io_tell(edge->descriptor, EV_READ);
  if (watching)
    list_append(edge->descriptor, &edge->watch.link);
}

static void tell(struct edge *edge, int ready) {
  if (ready & EDGE_IN)
    wait_notify(&edge->getters);
  if (ready & EDGE_OUT)
    wait_notify_all(&edge->putters);
}

static int look(struct edge *edge) {
  int ready = edge->kind->ready(edge), risen = ready & ~edge->seen;
  edge->seen = ready;
  tell(edge, ready);
  if (risen)
    tell_selectors(edge);
  return ready;
}

/* It stays in the descriptor's ring for as long as somebody waits. */
static void on_change(struct waiter *waiter) {
  struct edge *edge = container_of(waiter, struct edge, watch);
  if (waiter->revents == IO_CLOSED) {
    wait_notify_all(&edge->getters);
    wait_notify_all(&edge->putters);
  } else {
    edge->seen = edge->kind->ready(edge);
    tell(edge, edge->seen);
  }
}

/* ---- watching the descriptor ---- */

static void enter(struct edge *edge) {
  if (edge->waiting++ == 0) {
    list_append(edge->descriptor, &edge->watch.link);
    io_enter(edge->descriptor);
  }
}

static void leave(struct edge *edge) {
  if (--edge->waiting == 0) {
    list_remove(&edge->watch.link);
    io_leave(edge->descriptor);
  }
}

static void enter_getting(struct link *ring) { enter(container_of(ring, struct edge, getters)); }

static void leave_getting(struct link *ring) { leave(container_of(ring, struct edge, getters)); }

static void enter_putting(struct link *ring) { enter(container_of(ring, struct edge, putters)); }

static void leave_putting(struct link *ring) { leave(container_of(ring, struct edge, putters)); }

static void drop(lua_State *L, struct edge *edge) {
  struct hub *hub = hub_peek(L);
  if (hub)
    io_disown(hub, edge->fd);
  edge->fd = -1;
}

/* core.attach(object): it may be waited for from now on. */
static int l_attach(lua_State *L) {
  struct edge *edge = lua_touserdata(L, 1);
  luaL_argexpected(L, edge && lua_rawlen(L, 1) >= sizeof *edge, 1, "edge");
  edge->descriptor = io_own(L, hub_of(L), &edge->fd);
  edge->watch.notify = on_change;
  edge->watch.events = EV_READ;
  edge->look = look;
  edge->drop = drop;
  list_init(&edge->getters);
  list_init(&edge->putters);
  return 0;
}

/* ---- operations ---- */

static struct edge *check(lua_State *L, const struct edge_kind *kind) {
  struct edge *edge = lua_touserdata(L, 1);
  if (unlikely(!edge || lua_rawlen(L, 1) < sizeof *edge || edge->kind != kind))
    luaL_checkudata(L, 1, kind->metatable);
  return edge;
}

static const struct method *this_method(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/*
 * What a failed attempt or a look after it took notice of may be what it was waiting for.  Who
 * would look for others after failing at a vague object could wake them, and they him, for ever.
 */
static int attempt(lua_State *L, const struct edge_operation *operation) {
  struct edge *edge = lua_touserdata(L, 1);
  for (;;) {
    int results = operation->attempt(L);
    if (likely(edge->fd < 0 || !edge_is_watched(edge)))
      return results;
    bool failed = results == EDGE_AGAIN;
    if (failed && edge->vague && operation->waits == EDGE_OUT)
      return results;
    if (!(edge->look(edge) & operation->waits) || !failed)
      return results;
  }
}

/* Waits, until the deadline behind the arguments. */
static int block(lua_State *L, const struct method *method) {
  struct edge *edge = lua_touserdata(L, 1);
  const struct edge_operation *operation = method->operation;
  struct link *ring = operation->waits == EDGE_IN ? &edge->getters : &edge->putters;
  double limit = lua_tonumber(L, operation->timeout + 1);
  if (limit != NO_LIMIT)
    limit -= hub_now(hub_of(L));
  if (edge->vague && operation->waits == EDGE_OUT && limit > VAGUE_PAUSE)
    limit = VAGUE_PAUSE;
  return wait_in(L, ring, limit, &method->wait);
}

static bool is_over(lua_State *L, const struct method *method) {
  double deadline = lua_tonumber(L, method->operation->timeout + 1);
  return deadline != NO_LIMIT && deadline <= hub_now(hub_of(L));
}

static int step(lua_State *L, bool timed_out) {
  const struct method *method = this_method(L);
  int results = attempt(L, method->operation);
  if (results != EDGE_AGAIN)
    return results;
  if (!timed_out)
    return WAIT_AGAIN;
  if (!is_over(L, method))
    return block(L, method);
  luaL_pushfail(L);
  lua_pushliteral(L, "timeout");
  return 2;
}

/* The first wait. */
static int begin(lua_State *L, const struct method *method, double limit) {
  struct edge *edge = lua_touserdata(L, 1);
  int timeout = method->operation->timeout;
  if (lua_isnoneornil(L, timeout))
    limit = edge->kind->patience(edge, method->operation->waits);
  edge->unbroken = 0;
  lua_settop(L, timeout);
  lua_pushnumber(L, limit == NO_LIMIT ? NO_LIMIT : hub_now(hub_of(L)) + limit);
  return block(L, method);
}

static int turn_step(lua_State *L, bool timed_out) {
  const struct method *method = this_method(L);
  int results = attempt(L, method->operation);
  (void)timed_out;
  return results != EDGE_AGAIN ? results
                               : begin(L, method, wait_limit(L, method->operation->timeout));
}

static int l_operate(lua_State *L) {
  const struct method *method = this_method(L);
  const struct edge_operation *operation = method->operation;
  struct edge *edge = check(L, operation->kind);
  double limit = wait_limit(L, operation->timeout);
  if (unlikely(++edge->unbroken > MAX_UNBROKEN && limit > 0)) {
    edge->unbroken = 0;
    return wait_turn(L, &method->turn);
  }
  int results = attempt(L, operation);
  return likely(results != EDGE_AGAIN) ? results : begin(L, method, limit);
}

/* core.method(operation) -> function */
static int l_method(lua_State *L) {
  luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
  const struct edge_operation *operation = lua_touserdata(L, 1);
  bool gets = operation->waits == EDGE_IN;
  struct method *method = lua_newuserdatauv(L, sizeof *method, 0);
  *method = (struct method){.operation = operation,
                            .turn = {.name = operation->name, .step = turn_step},
                            .wait = {.name = operation->name,
                                     .step = step,
                                     .external = true,
                                     .passes_on = gets,
                                     .enter = gets ? enter_getting : enter_putting,
                                     .leave = gets ? leave_getting : leave_putting}};
  lua_pushcclosure(L, l_operate, 1);
  return 1;
}

int luaopen_moonlet_edge_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"attach", l_attach}, {"method", l_method}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
