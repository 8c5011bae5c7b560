/* guards.c: wrappers around functions of the standard library (see guards.h). */
#include "guards.h"

#include "hub.h"
#include "require.h"

/* The library's own functions, as they are in every state of this process. */
static lua_CFunction lua_resume_, lua_close_, lua_running, lua_yield_, lua_isyieldable_, lua_exit;

/* The greenlet whose own thread L is, or NULL. */
static struct greenlet *own_greenlet(lua_State *L) {
  struct hub *hub = hub_running;
  struct greenlet *g = hub ? hub->current : NULL;
  return g && g->L == L && g != hub->main ? g : NULL;
}

/* ---- coroutine ---- */

/* Upvalue: the table of greenlets' threads that were handed out.  Only a blocked one can have
   yielded. */
static bool is_blocked_greenlet(lua_State *L, lua_State *thread) {
  if (lua_status(thread) != LUA_YIELD)
    return false;
  bool found = lua_rawgetp(L, lua_upvalueindex(1), thread) != LUA_TNIL;
  lua_pop(L, 1);
  return found;
}

/* Calls the library's resume on this function's own arguments, noting what runs. */
static int resume_noting(lua_State *L, lua_State *thread) {
  struct hub *hub = hub_running;
  bool ours = hub && hub->running == L; /* two runtimes may share this thread */
  if (ours)
    hub->running = thread;
  int results = lua_resume_(L);
  if (ours)
    hub->running = L;
  return results;
}

static int l_resume(lua_State *L) {
  lua_State *thread = lua_tothread(L, 1);
  if (!thread)
    return lua_resume_(L);
  if (is_blocked_greenlet(L, thread)) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "cannot resume a blocked greenlet");
    return 2;
  }
  return resume_noting(L, thread);
}

/* A function made by coroutine.wrap: errors go on, strings with the place put before. */
static int l_wrapped(lua_State *L) {
  lua_State *thread = lua_tothread(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  int results = resume_noting(L, thread);
  if (likely(lua_toboolean(L, -results)))
    return results - 1;
  int status = lua_status(thread);
  if (status != LUA_OK && status != LUA_YIELD) {
    status = hub_close_thread(thread, L);
    lua_xmove(thread, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int l_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *thread = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, thread, 1);
  lua_pushcclosure(L, l_wrapped, 1);
  return 1;
}

static int l_close(lua_State *L) {
  lua_State *thread = lua_tothread(L, 1);
  if (thread && is_blocked_greenlet(L, thread))
    return luaL_error(L, "cannot close a blocked greenlet: kill it");
  return lua_close_(L);
}

static int l_running(lua_State *L) {
  struct greenlet *g = own_greenlet(L);
  if (g && !g->identified) {
    lua_pushboolean(L, 1);
    lua_rawsetp(L, lua_upvalueindex(1), L);
    g->identified = true;
  }
  return lua_running(L);
}

static int l_yield(lua_State *L) {
  if (own_greenlet(L))
    return luaL_error(L, "attempt to yield from outside a coroutine");
  return lua_yield_(L);
}

static int l_isyieldable(lua_State *L) {
  if (lua_isnone(L, 1) && own_greenlet(L))
    return lua_pushboolean(L, 0), 1;
  return lua_isyieldable_(L);
}

/* ---- os.exit ---- */

static int l_exit(lua_State *L) {
  if (lua_toboolean(L, 2))
    moonlet_close(L);
  return lua_exit(L);
}

/* ---- installing ---- */

struct guard {
  const char *library, *name;
  lua_CFunction *original; /* NULL: replaced without using it */
  lua_CFunction guard;
};

static const struct guard guards[] = {
    {"coroutine", "resume", &lua_resume_, l_resume},
    {"coroutine", "wrap", NULL, l_wrap},
    {"coroutine", "close", &lua_close_, l_close},
    {"coroutine", "running", &lua_running, l_running},
    {"coroutine", "yield", &lua_yield_, l_yield},
    {"coroutine", "isyieldable", &lua_isyieldable_, l_isyieldable},
    {"os", "exit", &lua_exit, l_exit},
};

/* Functions that are not plain C (somebody wrapped them before us) are left alone. */
static void install(lua_State *L, struct hub *hub, const struct guard *guard) {
  if (lua_getglobal(L, guard->library) == LUA_TTABLE) {
    lua_getfield(L, -1, guard->name);
    lua_CFunction original = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    bool known = !guard->original || !*guard->original || *guard->original == original;
    if (original && original != guard->guard && known) {
      if (guard->original && !*guard->original)
        *guard->original = original; /* once: other threads may use it */
      lua_rawgeti(L, LUA_REGISTRYINDEX, hub->identified);
      lua_pushcclosure(L, guard->guard, 1);
      lua_setfield(L, -2, guard->name);
    }
  }
  lua_pop(L, 1);
}

void guards_install(lua_State *L, struct hub *hub) {
  for (size_t i = 0; i < sizeof guards / sizeof *guards; i++)
    install(L, hub, &guards[i]);
  require_install(L);
}
