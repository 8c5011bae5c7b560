/*
 * interrupt.c: errors raised in a greenlet from outside, kills and Timeouts (see hub.h).
 */
#include "hub.h"

static bool is_shielded(const struct interrupt *it) {
  const struct greenlet *g = it->target;
  return g->shield > it->depth && !it->insistent && !g->hub->closing;
}

/*
 * Its turn in the run queue has come: takes the target out of its wait.  In a shuffled run
 * queue a wake-up that may have come first is let past.
 */
static struct greenlet *deliver(struct hub *hub, struct runnable *self) {
  struct interrupt *it = container_of(self, struct interrupt, run);
  struct greenlet *g = it->target;
  if (unlikely(hub->shuffle) && list_linked(&g->run.link)) {
    hub_push(hub, self);
    return NULL;
  }
  if (is_shielded(it) || (g->state != GREENLET_PARKED && g->state != GREENLET_PINNED)) {
    it->held = true;
    g->held++;
    return NULL;
  }
  assert(!g->interrupt);
  wait_undo(g);
  g->interrupt = it;
  return g;
}

void interrupt_aim(struct interrupt *self, struct greenlet *target) {
  assert(!self->target);
  self->run.run = deliver;
  self->target = target;
  self->depth = target->shield;
  list_append(&target->aimed, &self->aimed);
}

void interrupt_send(struct hub *hub, struct interrupt *self) {
  if (!self->held && !list_linked(&self->run.link))
    hub_push(hub, &self->run);
}

/* Forgets where it was under way; what it holds is its owner's affair. */
static void take_back(struct interrupt *self) {
  struct greenlet *g = self->target;
  if (list_linked(&self->run.link))
    list_remove(&self->run.link);
  if (self->held)
    g->held--;
  self->held = self->kept = false;
  list_remove(&self->aimed);
  self->target = NULL;
}

void interrupt_drop(struct hub *hub, struct interrupt *self) {
  if (!self->target)
    return;
  take_back(self);
  self->kind->drop(hub, self);
}

void interrupt_drop_all(struct greenlet *target) {
  while (!list_empty(&target->aimed))
    interrupt_drop(target->hub, container_of(target->aimed.next, struct interrupt, aimed));
}

void interrupt_raise(lua_State *L, struct greenlet *g) {
  struct interrupt *it = g->interrupt;
  g->interrupt = NULL;
  take_back(it);
  if (unlikely(!lua_checkstack(L, 4))) {
    it->kind->drop(g->hub, it);
    g->waiting = NULL;
    luaL_error(L, "stack overflow");
  }
  it->kind->push(L, g->hub, it);
  g->waiting = NULL;
  lua_error(L);
  __builtin_unreachable();
}

/* The first one that no shield keeps off, of those held back and perhaps those queued. */
static struct interrupt *first_due(const struct greenlet *g, bool queued) {
  list_each(it, &g->aimed) {
    struct interrupt *due = container_of(it, struct interrupt, aimed);
    if ((due->held || (queued && list_linked(&due->run.link))) && !is_shielded(due))
      return due;
  }
  return NULL;
}

static void raise_first(lua_State *L, struct greenlet *g, bool queued) {
  struct interrupt *due = first_due(g, queued);
  if (due) {
    g->interrupt = due;
    interrupt_raise(L, g);
  }
}

void interrupt_check(lua_State *L, struct greenlet *g) {
  if (g->held)
    raise_first(L, g, false);
}

void interrupt_strike(lua_State *L, struct greenlet *g) { raise_first(L, g, true); }

bool interrupt_is_due(const struct greenlet *g) { return g->held && first_due(g, false); }

static void raise_kept(lua_State *L, lua_Debug *ar) {
  struct hub *hub = hub_running;
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  if (hub && hub->current)
    interrupt_check(L, hub->current);
}

/* Raised when the C function returns that is at work.  A hook of somebody else's stays: then it is
   when the greenlet blocks next. */
void interrupt_keep(lua_State *L, struct greenlet *g) {
  g->interrupt->held = g->interrupt->kept = true;
  g->held++;
  g->interrupt = NULL;
  if (!lua_gethook(L))
    lua_sethook(L, raise_kept, LUA_MASKRET | LUA_MASKCOUNT, 1);
}

bool interrupt_push_kept(lua_State *L, struct greenlet *g) {
  struct interrupt *due = g->held ? first_due(g, false) : NULL;
  if (!due || !due->kept)
    return false;
  int place = lua_gettop(L) + 1;
  take_back(due);
  due->kind->push(L, g->hub, due);
  lua_replace(L, place);
  lua_settop(L, place);
  return true;
}

/* ---- kills ---- */

struct kill {
  struct interrupt interrupt;
  int slot; /* anchors this userdata, whose user value is the error */
};

static void drop_kill(struct hub *hub, struct interrupt *self) {
  hub_release(hub, container_of(self, struct kill, interrupt)->slot);
}

static void push_kill(lua_State *L, struct hub *hub, struct interrupt *self) {
  hub_push_anchored(L, hub, container_of(self, struct kill, interrupt)->slot);
  drop_kill(hub, self);
  lua_getiuservalue(L, -1, 1);
}

void interrupt_kill(lua_State *L, struct greenlet *target) {
  struct hub *hub = target->hub;
  struct kill *kill = lua_newuserdatauv(L, sizeof *kill, 1);
  static const struct interrupt_kind kind = {push_kill, drop_kill};
  *kill = (struct kill){.interrupt = {.kind = &kind}};
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, 1);
  kill->slot = hub_anchor(L, hub);
  interrupt_aim(&kill->interrupt, target);
  kill->interrupt.depth = 0;
  interrupt_send(hub, &kill->interrupt);
}
