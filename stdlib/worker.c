/*
 * worker.c: carrying functions to other Lua states, and results back (see worker.h).
 *
 * A request is: the function's code, what its upvalues are, package.path, package.cpath, the
 * upvalues that are data, and the arguments.  An answer is: true and the results, or false, the
 * error, its traceback.
 */
#include "worker.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>
#include <unistd.h>

#include "moonlet.h"
#include "protect.h"

MOONLET_API int luaopen_moonlet_workers_core(lua_State *L);

/* ---- the caller's side ---- */

/* What an upvalue is to be on the other side: the globals there, the function itself, or a copy. */
enum { UPVALUE_GLOBALS = 'g', UPVALUE_SELF = 's', UPVALUE_DATA = 'd' };

struct code {
  bool begun;
  luaL_Buffer buffer;
};

/* lua_dump wants the function on top of the stack, where the buffer will have a place. */
static int add_code(lua_State *L, const void *data, size_t size, void *argument) {
  struct code *code = argument;
  if (!code->begun)
    luaL_buffinit(L, &code->buffer);
  code->begun = true;
  luaL_addlstring(&code->buffer, data, size);
  return 0;
}

static bool is_globals(lua_State *L, const char *name) {
  if (strcmp(name, "_ENV") == 0)
    return true;
  lua_pushglobaltable(L);
  bool same = name[0] == '(' && lua_rawequal(L, -1, -2); /* stripped of its names */
  lua_pop(L, 1);
  return same;
}

/* carry(f) -> its code for pack(); or nil and why it cannot be sent. */
static int l_carry(lua_State *L) {
  struct code code = {.begun = false};
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  if (lua_iscfunction(L, 1)) {
    lua_pushnil(L);
    lua_pushliteral(L, "functions in C cannot be sent");
    return 2;
  }
  lua_dump(L, add_code, &code, 0);
  luaL_pushresult(&code.buffer);
  return 1;
}

/* Pushes a letter for each upvalue of the function at `f`. */
static void push_upvalues(lua_State *L, int f) {
  char letters[256];
  const char *name;
  int count = 0;
  for (; count < 255 && (name = lua_getupvalue(L, f, count + 1)); count++) {
    if (lua_rawequal(L, -1, f))
      letters[count] = UPVALUE_SELF;
    else if (is_globals(L, name))
      letters[count] = UPVALUE_GLOBALS;
    else
      letters[count] = UPVALUE_DATA;
    lua_pop(L, 1);
  }
  lua_pushlstring(L, letters, (size_t)count);
}

/* Pushes package.path and package.cpath, or nils. */
static void push_paths(lua_State *L) {
  int top = lua_gettop(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, LUA_LOADLIBNAME) == LUA_TTABLE) {
    lua_getfield(L, -1, "path");
    lua_getfield(L, -2, "cpath");
    lua_rotate(L, top + 1, 2);
  }
  lua_settop(L, top + 2);
}

/* Adds the upvalues of the function at `f` that are data; or returns the name of another. */
static const char *put_upvalues(lua_State *L, struct values *request, int f, const char *letters) {
  for (int i = 0; letters[i]; i++) {
    if (letters[i] != UPVALUE_DATA)
      continue;
    const char *name = lua_getupvalue(L, f, i + 1);
    if (!values_put(L, request, lua_gettop(L), 1, "upvalue"))
      return name;
    lua_pop(L, 1);
  }
  return NULL;
}

/* pack(code, f, ...) -> a request; or nil and what cannot be sent. */
static int l_pack(lua_State *L) {
  int count = lua_gettop(L) - 2;
  struct values *request = values_new(L);
  lua_insert(L, 1);
  push_upvalues(L, 3);
  push_paths(L);
  values_put(L, request, 2, 1, "function");
  values_put(L, request, count + 4, 3, "path");
  const char *other = put_upvalues(L, request, 3, lua_tostring(L, count + 4));
  if (!other && values_put(L, request, 4, count, "argument")) {
    lua_settop(L, 1);
    return 1;
  }
  if (other)
    lua_pushfstring(L,
                    "bad argument #1 to 'spawn' (its upvalue '%s' cannot be sent: define or "
                    "require it inside)",
                    other);
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

int worker_deliver(lua_State *L, const struct values *answer) {
  int count = answer->data ? values_get(L, answer) : 0;
  if (count == 0)
    return luaL_error(L, "not enough memory in a worker");
  int first = lua_gettop(L) - count + 1;
  if (lua_toboolean(L, first))
    return count - 1;
  if (lua_isstring(L, first + 2))
    protect_remember(L, first + 1);
  lua_settop(L, first + 1);
  protect_rethrow(L);
}

static int l_getpid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

/* ---- the worker's side ---- */

/* Registry: the traceback of the error seen last; what was loaded last, and its code; paths. */
static const char traceback_key, function_key, code_key, paths_key;

struct performance {
  const struct values *request;
  struct values *answer;
};

/* A message handler. */
static int keep_traceback(lua_State *L) {
  lua_settop(L, 1);
  protect_push_traceback(L, 1, L, 1);
  lua_pushliteral(L, "\n\t(in a worker)");
  lua_concat(L, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
  return 1;
}

/* Loads the code at `index` unless it was loaded last. */
static void push_loaded(lua_State *L, int index) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &code_key);
  bool known = lua_rawequal(L, -1, index);
  lua_pop(L, 1);
  if (known) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &function_key);
    return;
  }
  size_t size;
  const char *code = lua_tolstring(L, index, &size);
  if (luaL_loadbufferx(L, code, size, "=(sent)", "b") != LUA_OK)
    lua_error(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &function_key);
  lua_pushvalue(L, index);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &code_key);
}

/*
 * Pushes the function whose code is at `index`, with the letters of its upvalues after it, and
 * from `data` on those that are data, of which it returns the number.
 */
static int push_function(lua_State *L, int index, int data) {
  push_loaded(L, index);
  const char *letters = lua_tostring(L, index + 1);
  int next = data;
  for (int i = 0; letters[i]; i++) {
    if (letters[i] == UPVALUE_SELF)
      lua_pushvalue(L, -1);
    else if (letters[i] == UPVALUE_DATA)
      lua_pushvalue(L, next++);
    else
      lua_pushglobaltable(L);
    lua_setupvalue(L, -2, i + 1);
  }
  return next - data;
}

/* Modules are looked for where the caller looks, unless the same was set before. */
static void set_paths(lua_State *L, int index) {
  static const char *const names[] = {"path", "cpath"};
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &paths_key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &paths_key);
  }
  for (int i = 0; i < 2; i++) {
    lua_getfield(L, -1, names[i]);
    bool same = lua_rawequal(L, -1, index + i);
    lua_pop(L, 1);
    if (same)
      continue;
    lua_pushvalue(L, index + i);
    lua_setfield(L, -2, names[i]);
    if (lua_getglobal(L, LUA_LOADLIBNAME) == LUA_TTABLE) {
      lua_pushvalue(L, index + i);
      lua_setfield(L, -2, names[i]);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* The error on top of the stack, or what it says if it cannot be sent as it is. */
static void put_error(lua_State *L, struct values *answer) {
  int error = lua_gettop(L);
  luaL_checkstack(L, 8, NULL);
  lua_pushboolean(L, false);
  values_put(L, answer, error + 1, 1, "status");
  if (!values_put(L, answer, error, 1, "error")) {
    luaL_tolstring(L, error, NULL);
    values_put(L, answer, lua_gettop(L), 1, "error");
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
  values_put(L, answer, lua_gettop(L), 1, "traceback");
}

/* The results are those from `first` on. */
static void put_results(lua_State *L, struct values *answer, int first) {
  int count = lua_gettop(L) - first + 1;
  luaL_checkstack(L, 8, NULL);
  lua_pushboolean(L, true);
  values_put(L, answer, lua_gettop(L), 1, "status");
  lua_pop(L, 1);
  if (!values_put(L, answer, first, count, "result")) {
    values_clear(answer);
    put_error(L, answer);
  }
}

/* From the third value on: code, letters, path, cpath, upvalues, arguments. */
static int l_perform(lua_State *L) {
  const struct performance *p = lua_touserdata(L, 1);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
  lua_pushcfunction(L, keep_traceback);
  int count = values_get(L, p->request) - 4;
  set_paths(L, 5);
  int data = push_function(L, 3, 7), function = 6 + data;
  lua_replace(L, function);
  if (lua_pcall(L, count - data, LUA_MULTRET, 2) == LUA_OK)
    put_results(L, p->answer, function);
  else
    put_error(L, p->answer);
  return 0;
}

/* The error of l_perform itself is at 1: that memory ran out, or what a __tostring raised. */
static int l_fail(lua_State *L) {
  const struct performance *p = lua_touserdata(L, 2);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
  lua_pushstring(L, lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "(error object)");
  put_error(L, p->answer);
  return 0;
}

void worker_perform(lua_State *L, const struct values *request, struct values *answer) {
  struct performance performance = {.request = request, .answer = answer};
  int top = lua_gettop(L);
  lua_pushcfunction(L, l_perform);
  lua_pushlightuserdata(L, &performance);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    values_clear(answer);
    lua_pushcfunction(L, l_fail);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, &performance);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
      values_clear(answer);
  }
  lua_settop(L, top);
}

/* ---- the module, for moonlet.workers ---- */

static const luaL_Reg functions[] = {
    {"carry", l_carry}, {"pack", l_pack}, {"getpid", l_getpid}, {NULL, NULL}};

int luaopen_moonlet_workers_core(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
