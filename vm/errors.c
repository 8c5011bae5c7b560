/* errors.c: the errors with a meaning of their own, GreenletExit and LoopExit. */
#include "hub.h"
#include "report.h"

/* An error object's text: its message, or the name of its class. */
static int l_tostring(lua_State *L) {
  lua_settop(L, 1);
  if (lua_getfield(L, 1, "message") == LUA_TNIL)
    class_push_name(L, 1);
  luaL_tolstring(L, -1, NULL);
  return 1;
}

/***
 * GreenletExit([message]), LoopExit([message]): an error with that text.
 * @param message? any
 */
static int l_new(lua_State *L) {
  lua_settop(L, 2);
  lua_setfield(L, 1, "message");
  return 0;
}

static const luaL_Reg methods[] = {{"new", l_new}, {"__tostring", l_tostring}, {NULL, NULL}};

/***
 * @class moonlet.GreenletExit: Object
 * What a kill raises.  A greenlet that ends by it is successful, and has it as its value.
 * @field message? any
 * Source: gevent.GreenletExit.
 */
const struct class_kind greenlet_exit_kind = {.name = "GreenletExit", .methods = methods};
/***
 * @class moonlet.LoopExit: Object
 * Raised in main when it blocks and nothing is left that could wake it.
 * @field message? any  names every greenlet and what it waits for
 * Source: gevent.exceptions.LoopExit.
 */
const struct class_kind loop_exit_kind = {.name = "LoopExit", .methods = methods};

bool greenlet_is_exit(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE)
    return false;
  return class_kind_of(L, index) == &greenlet_exit_kind;
}

void greenlet_push_exit(lua_State *L, const char *message) {
  class_new(L, &greenlet_exit_kind);
  lua_pushstring(L, message);
  lua_setfield(L, -2, "message");
}

/* ---- LoopExit as an interrupt of the main greenlet ---- */

static void push_loop_exit(lua_State *L, struct hub *hub, struct interrupt *self) {
  (void)self;
  class_new(L, &loop_exit_kind);
  lua_pushliteral(L, "this operation would block forever: nothing is left that could end it\n");
  report_push_waiting(L, hub);
  lua_concat(L, 2);
  lua_setfield(L, -2, "message");
}

static void push_interrupted(lua_State *L, struct hub *hub, struct interrupt *self) {
  (void)hub, (void)self;
  lua_pushliteral(L, "interrupted!");
}

static void drop(struct hub *hub, struct interrupt *self) { (void)hub, (void)self; }

static const struct interrupt_kind loop_exit_interrupt = {push_loop_exit, drop};
static const struct interrupt_kind sigint_interrupt = {push_interrupted, drop};

void errors_open(struct hub *hub) {
  hub->loop_exit = (struct interrupt){.kind = &loop_exit_interrupt, .insistent = true};
  hub->sigint = (struct interrupt){.kind = &sigint_interrupt};
}
