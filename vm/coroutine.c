/* coroutine.c: see coroutine.h. */
#include "coroutine.h"

#include <stdatomic.h>

#include "hub.h"

/* The library's own functions, as they are in every state of this process. */
static lua_CFunction lua_close_, lua_running, lua_status_, lua_isyieldable_;

/* A wait in coroutines nested deeper than this takes a C stack: the way out through all of them,
   and back in, would cost more time than that. */
#define MAX_DEPTH 4

/* ---- blocked coroutines ---- */

/* Where these point to is on top of the stack of one that is blocked, or that has refused. */
static const char blocked, refused;

/* What coroutine_refuse() yields: nil, a message, and `refused`. */
enum { REFUSAL = 3 };

static bool is_blocked(lua_State *co) {
  return lua_status(co) == LUA_YIELD && lua_gettop(co) > 0 && lua_touserdata(co, -1) == &blocked;
}

int coroutine_block(lua_State *L, struct greenlet *g, lua_KFunction k) {
  g->nested = true;
  lua_pushlightuserdata(L, (void *)&blocked);
  return lua_yieldk(L, 1, lua_gettop(L), k);
}

struct greenlet *coroutine_woken(lua_State *L, lua_KContext top) {
  struct hub *hub = hub_running;
  struct greenlet *g = likely(hub != NULL) ? hub->current : NULL;
  if (unlikely(!g || !g->nested))
    return NULL;
  lua_settop(L, (int)top - 1);
  return g;
}

int coroutine_refuse(lua_State *L, lua_KContext top, lua_KFunction k) {
  lua_settop(L, (int)top);
  bool nested = top > 0 && lua_touserdata(L, -1) == &blocked;
  lua_pushnil(L);
  if (nested)
    lua_pushliteral(L, "cannot resume non-suspended coroutine");
  else
    lua_pushliteral(L, "cannot resume a blocked greenlet");
  lua_pushlightuserdata(L, (void *)&refused);
  return lua_yieldk(L, REFUSAL, top, k);
}

/* ---- resume and wrap ---- */

/* Instead of a number of results: an error, on top of the stack; the greenlet blocks. */
enum { FAILED = -1, BLOCKED = -2 };

/* Moves the results of `co` to L. */
static int take(lua_State *L, lua_State *co, int status, int results) {
  if (unlikely(status != LUA_OK && status != LUA_YIELD)) {
    lua_xmove(co, L, 1);
    return FAILED;
  }
  if (unlikely(results == REFUSAL && lua_touserdata(co, -1) == &refused)) {
    lua_pop(co, 1);
    lua_xmove(co, L, 1);
    lua_pop(co, 1);
    return FAILED;
  }
  if (unlikely(results >= LUA_MINSTACK && !lua_checkstack(L, results + 1))) {
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return FAILED;
  }
  lua_xmove(co, L, results);
  return results;
}

/* Moves the arguments on top of L to `co`; false: there is an error instead. */
static bool pass(lua_State *L, lua_State *co, int nargs) {
  if (nargs == 0)
    return true;
  if (unlikely(!lua_checkstack(co, nargs))) {
    lua_pop(L, nargs);
    lua_pushliteral(L, "too many arguments to resume");
    return false;
  }
  lua_xmove(L, co, nargs);
  return true;
}

/* Lets `co` run where waits in it cannot park. */
static int run_pinning(lua_State *L, struct hub *hub, lua_State *co, int nargs) {
  int results;
  if (!hub || hub_at_work(hub) != L) { /* two runtimes may share this thread */
    int status = lua_resume(co, L, nargs, &results);
    return take(L, co, status, results);
  }
  lua_State *parkable = hub->parkable;
  hub->running = co;
  atomic_signal_fence(memory_order_release); /* hub_at_work() may be asked at any time */
  hub->parkable = NULL;
  int status = lua_resume(co, L, nargs, &results);
  hub->running = L;
  hub->parkable = parkable;
  return take(L, co, status, results);
}

/* Lets `co` run until it yields or ends. */
static int run(lua_State *L, lua_State *co, int nargs) {
  struct hub *hub = hub_running;
  int results;
  if (!hub || hub->parkable != L || hub->current->depth == MAX_DEPTH || !lua_isyieldable(L))
    return run_pinning(L, hub, co, nargs);
  struct greenlet *g = hub->current;
  hub->parkable = co;
  g->depth++;
  int status = lua_resume(co, L, nargs, &results);
  g->depth--;
  hub->parkable = L;
  if (unlikely(status == LUA_YIELD && g->nested))
    return BLOCKED;
  return take(L, co, status, results);
}

/* The greenlet, blocked in `co`, is woken.  C code may have closed it meanwhile. */
static int run_on(lua_State *L, lua_State *co, struct greenlet *g) {
  int results = run(L, co, 0);
  if (unlikely(g->nested && results != BLOCKED)) {
    g->nested = false;
    wait_undo(g);
    wait_abandon(g);
    if (g->interrupt)
      interrupt_raise(L, g);
  }
  return results;
}

static int resume_woken(lua_State *L, int status, lua_KContext top);

static int return_failure(lua_State *L) {
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

/* The coroutine and `true` are at the bottom, results or an error above them. */
static int return_resumed(lua_State *L, int results) {
  if (likely(results >= 0))
    return results + 1;
  if (results == BLOCKED)
    return coroutine_block(L, hub_running->current, resume_woken);
  return return_failure(L);
}

static int resume_woken(lua_State *L, int status, lua_KContext top) {
  struct greenlet *g = coroutine_woken(L, top);
  (void)status;
  if (unlikely(!g))
    return coroutine_refuse(L, top, resume_woken);
  return return_resumed(L, run_on(L, lua_tothread(L, 1), g));
}

static int l_resume(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  int nargs = lua_gettop(L) - 1;
  if (unlikely(!pass(L, co, nargs)))
    return return_failure(L);
  lua_pushboolean(L, 1);
  return return_resumed(L, run(L, co, nargs));
}

/* Errors of a wrapped coroutine go on, strings with the place put before. */
static int fail_wrapped(lua_State *L, lua_State *co) {
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) {
    status = hub_close_thread(co, L);
    lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int wrapped_woken(lua_State *L, int status, lua_KContext top);

static int return_wrapped(lua_State *L, lua_State *co, int results) {
  if (likely(results >= 0))
    return results;
  if (results == BLOCKED)
    return coroutine_block(L, hub_running->current, wrapped_woken);
  return fail_wrapped(L, co);
}

static int wrapped_woken(lua_State *L, int status, lua_KContext top) {
  struct greenlet *g = coroutine_woken(L, top);
  (void)status;
  if (unlikely(!g))
    return coroutine_refuse(L, top, wrapped_woken);
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  return return_wrapped(L, co, run_on(L, co, g));
}

/* A function made by coroutine.wrap. */
static int l_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int nargs = lua_gettop(L);
  if (unlikely(!pass(L, co, nargs)))
    return fail_wrapped(L, co);
  return return_wrapped(L, co, run(L, co, nargs));
}

static int l_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, l_wrapped, 1);
  return 1;
}

/* ---- the others ---- */

/* Upvalue: the table of greenlets' threads that were handed out.  Only a blocked one can have
   yielded. */
static bool is_blocked_greenlet(lua_State *L, lua_State *thread) {
  if (lua_status(thread) != LUA_YIELD)
    return false;
  bool found = lua_rawgetp(L, lua_upvalueindex(1), thread) != LUA_TNIL;
  lua_pop(L, 1);
  return found;
}

static int l_close(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  if (co && is_blocked(co))
    return luaL_error(L, "cannot close a normal coroutine");
  if (co && is_blocked_greenlet(L, co))
    return luaL_error(L, "cannot close a blocked greenlet: kill it");
  return lua_close_(L);
}

static int l_status(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  if (co && is_blocked(co))
    return lua_pushliteral(L, "normal"), 1;
  return lua_status_(L);
}

/* The greenlet whose own thread L is, or NULL. */
static struct greenlet *own_greenlet(lua_State *L) {
  struct hub *hub = hub_running;
  struct greenlet *g = hub ? hub->current : NULL;
  return g && g->L == L && g != hub->main ? g : NULL;
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
  return lua_yield(L, lua_gettop(L));
}

static int l_isyieldable(lua_State *L) {
  if (lua_isnone(L, 1) && own_greenlet(L))
    return lua_pushboolean(L, 0), 1;
  return lua_isyieldable_(L);
}

const struct guard coroutine_guards[] = {
    {"coroutine", "resume", NULL, l_resume},
    {"coroutine", "wrap", NULL, l_wrap},
    {"coroutine", "close", &lua_close_, l_close},
    {"coroutine", "status", &lua_status_, l_status},
    {"coroutine", "running", &lua_running, l_running},
    {"coroutine", "yield", NULL, l_yield},
    {"coroutine", "isyieldable", &lua_isyieldable_, l_isyieldable},
    {NULL, NULL, NULL, NULL},
};
