/* report.c: errors nobody caught, and what every greenlet is waiting for (see report.h). */
#include "report.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "greenlet.h"

/* Registry: the function given to set_error_handler. */
static const char handler_key;

/* ---- failures ---- */

/* Pushes how the report names an error: the class of an object, else the type. */
static void push_kind(lua_State *L, int index) {
  if (luaL_getmetafield(L, index, "__name") != LUA_TSTRING)
    lua_pushstring(L, luaL_typename(L, index));
}

/* Arguments: the Greenlet, the error, its traceback or nil. */
static int print_failure(lua_State *L) {
  char now[32];
  time_t seconds = time(NULL);
  struct tm local;
  strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S", localtime_r(&seconds, &local));
  const char *message = luaL_tolstring(L, 2, NULL);
  const char *traceback = luaL_optstring(L, 3, "(no traceback)");
  greenlet_describe(L, 1);
  const char *greenlet = lua_tostring(L, -1);
  push_kind(L, 2);
  fprintf(stderr, "%s\n%s\n%s %s failed with %s\n", message, traceback, now, greenlet,
          lua_tostring(L, -1));
  fflush(stderr);
  return 0;
}

bool report_push_handler(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key) != LUA_TNIL)
    return true;
  lua_pop(L, 1);
  return false;
}

void report_print(lua_State *L) {
  const char *type = luaL_typename(L, -2);
  lua_pushcfunction(L, print_failure);
  lua_pushvalue(L, -4);
  lua_pushvalue(L, -4);
  lua_pushvalue(L, -4);
  if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
    lua_pop(L, 1);
    const struct greenlet *g = lua_touserdata(L, -3);
    fprintf(stderr, "<Greenlet '%s%llu'> failed with a %s, whose text cannot be had\n",
            g->name ? g->name : "Greenlet-", (unsigned long long)g->id, type);
  }
  lua_pop(L, 3);
}

/***
 * moonlet.set_error_handler([f]): f(greenlet, err, traceback) is called for each error that
 * ends a greenlet, as the last thing this greenlet does; nil: print to stderr again.
 * @param f? fun(greenlet: Greenlet, err: any, traceback: string?)
 * @return function? # that was set before
 * Source: gevent's Hub.handle_error.
 * Differs: a method of the hub to be replaced, and its exception_stream | one function
 */
static int l_set_error_handler(lua_State *L) {
  luaL_argexpected(L, lua_isnoneornil(L, 1) || greenlet_is_callable(L, 1), 1, "function");
  lua_settop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key);
  lua_insert(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
  return 1;
}

/* ---- who waits for what ---- */

/* Pushes "blocked in Queue:get, 1.5 s left" and the like. */
static void push_state(lua_State *L, const struct greenlet *g) {
  switch (g->state) {
  case GREENLET_SCHEDULED:
    lua_pushstring(L, timer_running(&g->timer) ? "will start later" : "has not run yet");
    return;
  case GREENLET_RUNNING:
    if (g->waiting)
      break; /* it is about to raise why the wait is over */
    lua_pushliteral(L, "running");
    return;
  default:
    break;
  }
  if (list_linked(&g->run.link))
    lua_pushliteral(L, "ready to run");
  else
    lua_pushfstring(L, "waits in %s", g->waiting ? g->waiting->name : "?");
  if (timer_running(&g->timer)) {
    char left[40];
    snprintf(left, sizeof left, ", %.3g s left", g->timer.due - hub_now(g->hub));
    lua_pushstring(L, left);
    lua_concat(L, 2);
  }
  if (g->state == GREENLET_PINNED) {
    lua_pushliteral(L, ", on a C stack");
    lua_concat(L, 2);
  }
}

/* Pushes " at script.lua:12", the innermost line of Lua code, or nothing. */
static void push_place(lua_State *L, lua_State *at) {
  lua_Debug ar;
  for (int level = 0; at && lua_getstack(at, level, &ar); level++) {
    lua_getinfo(at, "Sl", &ar);
    if (ar.currentline > 0) {
      lua_pushfstring(L, " at %s:%d", ar.short_src, ar.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

/* Adds one greenlet's line to the buffer, with the place or the traceback of `at`. */
static void add_greenlet(luaL_Buffer *buffer, lua_State *L, struct greenlet *g, lua_State *at,
                         bool traceback) {
  greenlet_push(L, g);
  greenlet_describe(L, 1);
  push_state(L, g);
  push_place(L, traceback ? NULL : at);
  lua_pushliteral(L, "");
  if (lua_getfield(L, 1, "parent") != LUA_TNIL) {
    lua_getfield(L, -1, "name");
    lua_pushfstring(L, " (spawned by %s)", lua_tostring(L, -1));
    lua_replace(L, 5);
  }
  lua_pushfstring(L, "%s %s%s%s\n", lua_tostring(L, 2), lua_tostring(L, 3), lua_tostring(L, 4),
                  lua_tostring(L, 5));
  if (traceback && at) {
    luaL_traceback(L, at, NULL, 0);
    lua_pushfstring(L, "%s%s\n", lua_tostring(L, -2), lua_tostring(L, -1));
  }
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  luaL_addlstring(buffer, text, length);
}

/* The buffer may live on the stack of L: scratch values go to another thread. */
static void push_greenlets(lua_State *L, struct hub *hub, bool tracebacks) {
  luaL_Buffer buffer;
  lua_State *scratch = lua_newthread(L);
  luaL_buffinit(L, &buffer);
  for (struct link *it = NULL; it != &hub->greenlets; it = it ? it->next : hub->greenlets.next) {
    struct greenlet *g = it ? container_of(it, struct greenlet, alive) : hub->main;
    lua_State *at = g->state == GREENLET_RUNNING ? L : g->blocked;
    add_greenlet(&buffer, scratch, g, at, tracebacks);
    lua_settop(scratch, 0);
  }
  luaL_pushresult(&buffer);
  lua_remove(L, -2);
}

void report_push_waiting(lua_State *L, struct hub *hub) { push_greenlets(L, hub, false); }

/***
 * moonlet.run_info([write]): tells of every greenlet its name, state, what it waits for,
 * who spawned it, and its traceback.
 * @param write? fun(text: string)  receives the text; without, it goes to stderr
 * @return string # the text
 * Source: gevent.util.print_run_info.
 * Differs: a tree by spawner, with locals | a list that names the spawners
 */
static int l_run_info(lua_State *L) {
  luaL_argexpected(L, lua_isnoneornil(L, 1) || greenlet_is_callable(L, 1), 1, "function");
  lua_settop(L, 1);
  push_greenlets(L, hub_of(L), true);
  if (lua_isnil(L, 1)) {
    fputs(lua_tostring(L, 2), stderr);
  } else {
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 0);
  }
  return 1;
}

static void set_count(lua_State *L, const char *name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static lua_Integer list_count(struct link *ring) {
  lua_Integer count = 0;
  list_each(it, ring) count++;
  return count;
}

/***
 * @class moonlet.Stats
 * What stats() counts.
 * @field greenlets integer  started and not ended, without main
 * @field ready integer  greenlets and others in the run queue
 * @field timers integer
 * @field watchers integer  greenlets that wait for something outside
 * @field pinned integer  greenlets that wait on a C stack, without main
 * @field stacks integer  C stacks mapped
 * @field signals integer  signal handlers
 * @field switches integer  since the start
 * @field spawned integer  greenlets since the start
 * @field polls integer  looks at timers and descriptors since the start
 * @field lag number  the longest time without such a look, seconds
 */

/***
 * moonlet.stats(): a new table of counters.
 * @return Stats
 */
static int l_stats(lua_State *L) {
  struct hub *hub = hub_of(L);
  lua_createtable(L, 0, 12);
  set_count(L, "greenlets", hub->alive);
  set_count(L, "ready", list_count(&hub->ready));
  set_count(L, "timers", hub->timers.count);
  set_count(L, "watchers", hub->refs);
  set_count(L, "pinned", hub->pinned - (hub->main->state == GREENLET_PINNED));
  set_count(L, "stacks", hub->stacks.count);
  set_count(L, "signals", hub->signal_count);
  set_count(L, "switches", (lua_Integer)hub->switches);
  set_count(L, "spawned", (lua_Integer)hub->spawned);
  set_count(L, "polls", (lua_Integer)hub->polls);
  lua_pushnumber(L, hub->lag);
  lua_setfield(L, -2, "lag");
  return 1;
}

const luaL_Reg report_functions[] = {{"set_error_handler", l_set_error_handler},
                                     {"run_info", l_run_info},
                                     {"stats", l_stats},
                                     {NULL, NULL}};
