/* event.c: moonlet.event, and its class Event, a flag that greenlets wait for. */
/***
 * @module moonlet.event
 * Flags and results that greenlets wait for.
 * Differs: rawlink and unlink of an Event | there | not there
 */
#include "event.h"

#include "hub.h"

MOONLET_API int luaopen_moonlet_event(lua_State *L);

struct event {
  struct class_object object;
  struct link waiters;
  bool set;
  int waiting; /* greenlets in wait(), with those that are woken but have not run yet */
};

static struct event *check(lua_State *L) { return class_check(L, 1, &event_kind); }

static void init(lua_State *L, void *object) {
  struct event *event = object;
  (void)L;
  list_init(&event->waiters);
}

/***
 * Event:set(): wakes all who wait now, in the order in which they came.
 * They get true even if the event is cleared before they run.  Until then wait() returns
 * at once.
 */
static int l_set(lua_State *L) {
  struct event *event = check(L);
  event->set = true;
  wait_notify_all(&event->waiters);
  return 0;
}

/*** Event:clear(): from now on wait() blocks again. */
static int l_clear(lua_State *L) {
  check(L)->set = false;
  return 0;
}

/***
 * Event:is_set(), Event:ready(): whether it is set.
 * @return boolean
 */
static int l_is_set(lua_State *L) {
  lua_pushboolean(L, check(L)->set);
  return 1;
}

/* Only set() notifies, so who was notified need not look at the flag. */
static int wait_step(lua_State *L, bool timed_out) {
  lua_pushboolean(L, !timed_out);
  return 1;
}

static void enter(struct link *ring) { container_of(ring, struct event, waiters)->waiting++; }

static void leave(struct link *ring) { container_of(ring, struct event, waiters)->waiting--; }

/***
 * Event:wait([timeout]): waits until the event is set.
 * If it is set but greenlets that waited for it have not run yet, the caller goes on
 * after them.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * Source: gevent.event.Event.
 * Differs: a timeout of 0 lets others run before it returns false | returns at once
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Event:wait", .step = wait_step, .enter = enter, .leave = leave};
  static const struct wait_kind turn_kind = {.name = "Event:wait", .step = wait_step};
  struct event *event = check(L);
  double limit = wait_limit(L, 2);
  if (!event->set)
    return wait_in(L, &event->waiters, limit, &kind);
  if (event->waiting > 0 && limit > 0)
    return wait_turn(L, &turn_kind);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_tostring(lua_State *L) {
  const struct event *event = check(L);
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s %p: %s>", lua_tostring(L, -1), event, event->set ? "set" : "not set");
  return 1;
}

static struct link *watch(void *object) {
  struct event *event = object;
  return event->set ? NULL : &event->waiters;
}

static const luaL_Reg methods[] = {
    {"set", l_set},   {"clear", l_clear},         {"is_set", l_is_set}, {"ready", l_is_set},
    {"wait", l_wait}, {"__tostring", l_tostring}, {NULL, NULL}};

/***
 * @class moonlet.event.Event: Object
 * A flag that greenlets wait for.
 */

/*** Event(): is not set at first. */
const struct class_kind event_kind = {.name = "Event",
                                      .size = sizeof(struct event),
                                      .init = init,
                                      .methods = methods,
                                      .watch = watch};

/* ---- the module ---- */

int luaopen_moonlet_event(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  lua_createtable(L, 0, 2);
  class_push(L, &event_kind);
  lua_setfield(L, -2, "Event");
  class_push(L, &async_result_kind);
  lua_setfield(L, -2, "AsyncResult");
  return 1;
}
