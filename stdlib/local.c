/*
 * local.c: moonlet.local, objects whose fields every greenlet has its own of.
 *
 * A greenlet keeps them in a table, local object -> fields, that ends with the greenlet;
 * its weak keys let go of a local object that nobody else has.
 */
/***
 * @module moonlet.local
 * Objects whose fields every greenlet has its own of:
 *
 *     local stash = require("moonlet.local")()
 *
 * @return Local
 * Differs: copy.copy of a local | copies the current greenlet's values | pairs(stash) goes over
 *   them
 */
#include "hub.h"

MOONLET_API int luaopen_moonlet_local(lua_State *L);

static const struct class_kind local_kind;

/* The one thing in a local object itself: the arguments for its initialiser, with `n`. */
static const char key_arguments;

/* ---- the fields of the current greenlet ---- */

static void push_weak_table(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
}

/* Pushes the current greenlet's table of local objects. */
static void push_locals(lua_State *L) {
  struct greenlet *g = hub_of(L)->current;
  if (!g)
    luaL_error(L, "a local cannot be used where no greenlet is running");
  greenlet_push(L, g);
  if (likely(g->localized)) {
    lua_getiuservalue(L, -1, UV_LOCALS);
  } else {
    push_weak_table(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, -3, UV_LOCALS);
    g->localized = true;
  }
  lua_remove(L, -2);
}

/* Pushes the initialiser of the local at 1 and its arguments; returns their number. */
static int push_initialiser(lua_State *L) {
  lua_getmetatable(L, 1);
  lua_getfield(L, -1, "new");
  lua_remove(L, -2);
  lua_pushvalue(L, 1);
  if (lua_rawgetp(L, 1, &key_arguments) == LUA_TNIL) {
    lua_pop(L, 1);
    return 1;
  }
  int table = lua_gettop(L);
  lua_getfield(L, table, "n");
  int count = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, count, "too many arguments");
  for (int i = 1; i <= count; i++)
    lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return count + 1;
}

/*
 * Ends in then(), with the current greenlet's fields of the local at 1 on top of the stack.
 * At its first touch they are made first and the initialiser is called, which may block.
 */
static int enter(lua_State *L, lua_KFunction then) {
  luaL_checkstack(L, 8, NULL);
  push_locals(L);
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    if (class_kind_of(L, 1) != &local_kind)
      luaL_typeerror(L, 1, "Local");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
    lua_callk(L, push_initialiser(L), 0, 0, then);
  }
  return then(L, LUA_OK, 0);
}

/* ---- metamethods ---- */

/* What the greenlet has not set is looked up in the class: methods and common defaults. */
static int index_entered(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL || lua_type(L, 2) != LUA_TSTRING)
    return 1;
  lua_getmetatable(L, 1);
  lua_pushvalue(L, 2);
  lua_gettable(L, -2);
  return 1;
}

static int l_index(lua_State *L) { return enter(L, index_entered); }

static int newindex_entered(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 3);
  lua_rawset(L, -3);
  return 0;
}

static int l_newindex(lua_State *L) { return enter(L, newindex_entered); }

static int len_entered(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_pushinteger(L, (lua_Integer)lua_rawlen(L, -1));
  return 1;
}

static int l_len(lua_State *L) { return enter(L, len_entered); }

static int l_next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  if (lua_next(L, 1))
    return 2;
  lua_pushnil(L);
  return 1;
}

static int pairs_entered(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_pushcfunction(L, l_next);
  lua_insert(L, -2);
  return 2;
}

static int l_pairs(lua_State *L) { return enter(L, pairs_entered); }

/* ---- the class ---- */

/* The initialiser that takes nothing. */
static int l_new(lua_State *L) {
  return lua_gettop(L) > 1 ? class_argerror(L, 2, "no initialiser takes it") : 0;
}

static int constructed(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_settop(L, 1);
  return 1;
}

/***
 * Local(...): an object for fields of greenlets.
 * @raise an error for arguments that no initialiser takes
 */
static int l_construct(lua_State *L) {
  luaL_argexpected(L, class_is_class(L, 1), 1, "class");
  int count = lua_gettop(L) - 1;
  lua_newtable(L);
  lua_pushvalue(L, 1);
  lua_setmetatable(L, -2);
  lua_replace(L, 1);
  if (count > 0) {
    lua_createtable(L, count, 1);
    lua_insert(L, 2);
    for (int i = count; i >= 1; i--)
      lua_rawseti(L, 2, i);
    lua_pushinteger(L, count);
    lua_setfield(L, 2, "n");
    lua_rawsetp(L, 1, &key_arguments);
  }
  return enter(L, constructed);
}

/* Local or a class below it, at 1: what a class has of its own, and cannot inherit. */
static int l_extend(lua_State *L) {
  lua_settop(L, 1);
  lua_pushcfunction(L, l_index);
  lua_setfield(L, 1, "__index");
  lua_pushcfunction(L, l_newindex);
  lua_setfield(L, 1, "__newindex");
  lua_getmetatable(L, 1);
  lua_pushcfunction(L, l_construct);
  lua_setfield(L, 2, "__call");
  return 0;
}

static const luaL_Reg methods[] = {
    {"new", l_new}, {"__extend", l_extend}, {"__pairs", l_pairs}, {"__len", l_len}, {NULL, NULL}};

/***
 * @class moonlet.local.Local: Object
 * An object whose fields are the current greenlet's own, freed with it.
 * In a subclass with an initialiser, `function Session:new(...)`, that is called once in
 * each greenlet that touches the object, with the arguments of the constructor.  Fields of the
 * class are common to all.
 * Source: gevent.local.
 */
static const struct class_kind local_kind = {.name = "Local", .methods = methods};

int luaopen_moonlet_local(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  lua_pushcfunction(L, l_extend);
  class_push(L, &local_kind);
  lua_pushvalue(L, -1);
  lua_insert(L, -3);
  lua_call(L, 1, 0);
  return 1;
}
