/* greenlet_class.c: the class Greenlet as scripts see it. */
#include "greenlet.h"

#include "protect.h"

static struct greenlet *check(lua_State *L) { return class_check(L, 1, &greenlet_kind); }

static bool is_dead(const struct greenlet *g) { return g->state == GREENLET_DEAD; }

static bool is_started(const struct greenlet *g) {
  return g->state != GREENLET_NEW && g->state != GREENLET_DEAD;
}

/* ---- making and starting ---- */

/* What a Greenlet without a function of its own runs; a subclass overrides it. */
static int l_run(lua_State *L) {
  return luaL_error(L, "this greenlet has neither a function nor a _run method");
}

/* Whether the object at 1 has a _run method that is not the one above; pushes it. */
static bool overrides_run(lua_State *L) {
  lua_getfield(L, 1, "_run");
  return lua_tocfunction(L, -1) != l_run;
}

/***
 * Greenlet([f, ...]): a greenlet that will run f(...) once it is started.
 * f may be left out by subclasses that have a method _run, which is then called with
 * the arguments.
 * @param f? function
 * Source: gevent.Greenlet.
 * Differs: keyword arguments are passed on | Lua has none; a table may hold them
 */
static int l_new(lua_State *L) {
  struct greenlet *g = check(L);
  if (g->state != GREENLET_NEW)
    return luaL_error(L, "the greenlet has already been started");
  bool runs = overrides_run(L);
  lua_pop(L, 1);
  if (!runs || !lua_isnoneornil(L, 2)) {
    if (!greenlet_is_callable(L, 2))
      class_typeerror(L, 2, "function");
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 1, UV_BODY);
  }
  int count = lua_gettop(L) - 2;
  if (count > 0) {
    greenlet_store(L, 1, count);
    g->args = count;
  }
  return 0;
}

/* A method _run wins over the function, as in gevent. */
static void start(lua_State *L, double delay, bool delayed) {
  struct greenlet *g = check(L);
  if (g->state != GREENLET_NEW)
    return;
  lua_settop(L, 1);
  if (overrides_run(L)) {
    lua_setiuservalue(L, 1, UV_BODY);
    g->method = true;
  } else if (lua_getiuservalue(L, 1, UV_BODY) == LUA_TNIL) {
    luaL_error(L, "this greenlet has neither a function nor a _run method");
  }
  greenlet_start(L, 1, delay, delayed);
}

/*** Greenlet:start(): lets it run when the caller next blocks; a second call does nothing. */
static int l_start(lua_State *L) {
  start(L, 0, false);
  return 0;
}

/***
 * Greenlet:start_later(seconds): the same after so many seconds.
 * @param seconds number
 */
static int l_start_later(lua_State *L) {
  check(L);
  start(L, luaL_checknumber(L, 2), true);
  return 0;
}

/***
 * moonlet.spawn(f, ...), Greenlet.spawn(f, ...): a new started greenlet, which runs first when
 * the caller blocks.  A subclass's spawn takes what its constructor takes.
 * @param f function
 * @return Greenlet
 * Source: gevent.spawn.
 */
static int l_spawn(lua_State *L) {
  if (unlikely(!lua_isfunction(L, 1)))
    luaL_argexpected(L, greenlet_is_callable(L, 1), 1, "function");
  greenlet_spawn(L, lua_gettop(L) - 1);
  return 1;
}

/***
 * moonlet.spawn_later(seconds, f, ...), Greenlet.spawn_later(seconds, f, ...): the same after so
 * many seconds.
 * @param seconds number
 * @param f function
 * @return Greenlet
 * Source: gevent.spawn_later.
 */
static int l_spawn_later(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  greenlet_spawn_later(L, lua_gettop(L) - 2, seconds);
  return 1;
}

/* The same for a subclass, which is the upvalue: constructs, then starts. */
static int l_class_spawn(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  start(L, 0, false);
  lua_settop(L, 1);
  return 1;
}

static int l_class_spawn_later(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_replace(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  start(L, seconds, true);
  lua_settop(L, 1);
  return 1;
}

static int l_extend(lua_State *L) {
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, l_class_spawn, 1);
  lua_setfield(L, 1, "spawn");
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, l_class_spawn_later, 1);
  lua_setfield(L, 1, "spawn_later");
  return 0;
}

/* ---- asking ---- */

/***
 * Greenlet:ready(), Greenlet:dead(): whether it has ended.
 * @return boolean
 */
static int l_ready(lua_State *L) {
  lua_pushboolean(L, is_dead(check(L)));
  return 1;
}

/***
 * Greenlet:successful(): whether it has ended other than by an error.
 * @return boolean
 */
static int l_successful(lua_State *L) {
  const struct greenlet *g = check(L);
  lua_pushboolean(L, is_dead(g) && !g->failed);
  return 1;
}

/* ---- waiting for the end ---- */

static int join_step(lua_State *L, bool timed_out) {
  const struct greenlet *g = lua_touserdata(L, 1);
  if (!is_dead(g) && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, is_dead(g));
  return 1;
}

static const struct wait_kind join_kind = {.name = "Greenlet:join", .step = join_step};

/***
 * Greenlet:join([timeout]): waits for its end.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * Source: gevent.Greenlet.join.
 * Differs: returns nothing | returns whether it has ended
 */
static int l_join(lua_State *L) {
  struct greenlet *g = check(L);
  return wait_for(L, &g->done, 2, &join_kind);
}

static int get_step(lua_State *L, bool timed_out) {
  const struct greenlet *g = lua_touserdata(L, 1);
  if (timed_out) {
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
  }
  if (!is_dead(g))
    return WAIT_AGAIN;
  int count = greenlet_push_stored(L, 1, g->results);
  if (!g->failed)
    return count;
  if (greenlet_get_private(L, 1, &greenlet_key_traceback) == LUA_TSTRING)
    protect_remember(L, -2);
  else
    lua_pop(L, 1);
  protect_rethrow(L);
}

static const struct wait_kind get_kind = {.name = "Greenlet:get", .step = get_step};

/***
 * Greenlet:get([timeout]): waits for its end and returns all results of its function.
 * One that was killed gives the GreenletExit.
 * @param timeout? number|Timeout  seconds
 * @return any ... # nil, "timeout" at the timeout
 * @raise the error that it died of
 * Source: gevent.Greenlet.get.
 * Differs: a Timeout is raised when the time is up | returns nil, "timeout"
 */
static int l_get(lua_State *L) {
  struct greenlet *g = check(L);
  return wait_for(L, &g->done, 2, &get_kind);
}

/* ---- killing ---- */

static const struct wait_kind kill_kind = {.name = "Greenlet:kill", .step = join_step};

/* The error on top of the stack: nil stands for an exit, a class for an instance. */
static void prepare_error(lua_State *L) {
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    greenlet_push_exit(L, NULL);
  } else if (class_is_class(L, -1)) {
    lua_call(L, 0, 1);
  }
}

void greenlet_kill(lua_State *L) {
  struct greenlet *g = lua_touserdata(L, -2);
  if (!is_dead(g))
    prepare_error(L); /* may block */
  if (is_dead(g))
    lua_pop(L, 1);
  else if (g->state == GREENLET_NEW || g->state == GREENLET_SCHEDULED)
    greenlet_cancel(L, g);
  else
    interrupt_kill(L, g);
  lua_pop(L, 1);
}

/***
 * Greenlet:kill([err [, timeout]]): raises an error where it blocks, and waits until it is dead.
 * One that has not run yet never will.  Killing oneself raises at once, or with timeout 0 at
 * the next wait.
 * @param err? any  a GreenletExit if nothing is said; of a class an instance is raised
 * @param timeout? number|Timeout  seconds; 0 does not wait
 * @return boolean # true once it is dead, false at the timeout
 * Source: gevent.Greenlet.kill.
 * Differs: returns nothing | returns whether it is dead
 */
static int l_kill(lua_State *L) {
  struct greenlet *g = check(L);
  double limit = wait_limit(L, 3);
  lua_settop(L, 3);
  if (g == hub_of(L)->current && limit > 0) {
    lua_settop(L, 2);
    prepare_error(L);
    return lua_error(L);
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  greenlet_kill(L);
  return wait_for(L, &g->done, 3, &kill_kind);
}

/***
 * moonlet.kill(greenlet [, err]): kills without waiting.
 * @param greenlet Greenlet
 * @param err? any  a GreenletExit if nothing is said
 * Source: gevent.kill.
 */
static int l_kill_nowait(lua_State *L) {
  check(L);
  hub_of(L);
  lua_settop(L, 2);
  greenlet_kill(L);
  return 0;
}

/* ---- as a <close> variable ---- */

/***
 * Greenlet:__close([err]): as a `<close>` variable it is joined at the end of the block, or
 * killed if an error ends the block.
 * @param err? any
 * Differs: is killed with the error that ends the block | is killed with a GreenletExit
 */
static int l_close(lua_State *L) {
  struct greenlet *g = check(L);
  bool failed = !lua_isnoneornil(L, 2);
  lua_settop(L, 1);
  if (g == hub_of(L)->current)
    return 0;
  if (g->state == GREENLET_NEW && !failed)
    return 0;
  if (failed) {
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    greenlet_kill(L);
  }
  return wait_for(L, &g->done, 2, &join_kind);
}

/* ---- fields ---- */

static void get_started(lua_State *L, void *object) { lua_pushboolean(L, is_started(object)); }

static void get_value(lua_State *L, void *object) {
  const struct greenlet *g = object;
  if (!is_dead(g) || g->failed || g->results == 0) {
    lua_pushnil(L);
    return;
  }
  lua_getiuservalue(L, 1, UV_OUTCOME);
  if (g->results > 1)
    lua_rawgeti(L, -1, 1);
}

static void get_exception(lua_State *L, void *object) {
  const struct greenlet *g = object;
  if (g->failed)
    lua_getiuservalue(L, 1, UV_OUTCOME);
  else
    lua_pushnil(L);
}

static void get_traceback(lua_State *L, void *object) {
  const struct greenlet *g = object;
  if (g->failed)
    greenlet_get_private(L, 1, &greenlet_key_traceback);
  else
    lua_pushnil(L);
}

static void get_args(lua_State *L, void *object) {
  const struct greenlet *g = object;
  if (is_dead(g) || g->args < 0) {
    lua_pushnil(L);
    return;
  }
  luaL_checkstack(L, g->args + 2, "too many arguments");
  lua_createtable(L, g->args, 1);
  int table = lua_gettop(L), count = greenlet_push_args(L, 1);
  for (int i = count; i >= 1; i--)
    lua_rawseti(L, table, i);
  lua_pushinteger(L, count);
  lua_setfield(L, table, "n");
}

static void push_name(lua_State *L, int index) {
  const struct greenlet *g = lua_touserdata(L, index);
  if (greenlet_get_private(L, index, &greenlet_key_name) != LUA_TNIL)
    return;
  lua_pop(L, 1);
  if (g == g->hub->main)
    lua_pushliteral(L, "main");
  else
    lua_pushfstring(L, "Greenlet-%I", (lua_Integer)g->id);
}

void greenlet_name(lua_State *L, struct greenlet *g) {
  greenlet_push(L, g);
  push_name(L, lua_gettop(L));
  lua_remove(L, -2);
}

static void get_name(lua_State *L, void *object) {
  (void)object;
  push_name(L, 1);
}

static void set_name(lua_State *L, void *object) {
  ((struct greenlet *)object)->name = luaL_checkstring(L, 3);
  lua_pushvalue(L, 3);
  greenlet_set_private(L, 1, &greenlet_key_name);
}

static void get_parent(lua_State *L, void *object) {
  const struct greenlet *g = object;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &greenlet_key_spawners);
  if (g == g->hub->main)
    lua_pushnil(L);
  else
    lua_rawgeti(L, -1, (lua_Integer)g->parent);
}

static void get_id(lua_State *L, void *object) {
  lua_pushinteger(L, (lua_Integer)((struct greenlet *)object)->id);
}

void greenlet_describe(lua_State *L, int index) {
  static const char *const states[] = {"new",     "scheduled", "running",
                                       "blocked", "blocked",   "ended"};
  const struct greenlet *g = lua_touserdata(L, index);
  const char *state = g->failed                                    ? "failed"
                      : g->state == GREENLET_RUNNING && g->waiting ? "blocked"
                                                                   : states[g->state];
  push_name(L, index);
  class_push_name(L, index);
  lua_pushfstring(L, "<%s '%s': %s>", lua_tostring(L, -1), lua_tostring(L, -2), state);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

static int l_tostring(lua_State *L) {
  check(L);
  greenlet_describe(L, 1);
  return 1;
}

static struct link *watch(void *object) {
  struct greenlet *g = object;
  return is_dead(g) ? NULL : &g->done;
}

/* ---- the class ---- */

/***
 * @class moonlet.Greenlet: Object
 * A function that runs while others wait.
 * @field started boolean  from start() until its end
 * @field value any  the first result, or the GreenletExit that ended it; nil before, and if it
 *   failed
 * @field exception any  the error that ended it
 * @field traceback? string  of that error
 * @field args? table  the arguments and their number `n`, until its end
 * @field name string  may be set; "Greenlet-" and the id if it is not
 * @field parent? Greenlet  who spawned it
 * @field id integer  no other greenlet's
 */
static const struct class_field fields[] = {{"started", get_started, NULL},
                                            {"value", get_value, NULL},
                                            {"exception", get_exception, NULL},
                                            {"traceback", get_traceback, NULL},
                                            {"args", get_args, NULL},
                                            {"name", get_name, set_name},
                                            {"parent", get_parent, NULL},
                                            {"id", get_id, NULL},
                                            {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"new", l_new},
                                   {"_run", l_run},
                                   {"start", l_start},
                                   {"start_later", l_start_later},
                                   {"spawn", l_spawn},
                                   {"spawn_later", l_spawn_later},
                                   {"ready", l_ready},
                                   {"dead", l_ready},
                                   {"successful", l_successful},
                                   {"join", l_join},
                                   {"get", l_get},
                                   {"kill", l_kill},
                                   {"__close", l_close},
                                   {"__extend", l_extend},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind greenlet_kind = {.name = "Greenlet",
                                         .size = sizeof(struct greenlet),
                                         .values = 2,
                                         .init = greenlet_init,
                                         .methods = methods,
                                         .fields = fields,
                                         .watch = watch};

const luaL_Reg greenlet_functions[] = {
    {"spawn", l_spawn}, {"spawn_later", l_spawn_later}, {"kill", l_kill_nowait}, {NULL, NULL}};
