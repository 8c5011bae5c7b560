/* module.c: require "moonlet", and where its other modules are found. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "fork.h"
#include "greenlet.h"
#include "hub.h"
#include "modules.h"
#include "report.h"
#include "signals.h"
#include "timeout.h"
#include "waits.h"
#include "watchdog.h"

#ifndef MOONLET_VERSION
#define MOONLET_VERSION "scm"
#endif

/* ---- modules written in Lua ---- */

/* The folder of the program or library that holds this code. */
static bool own_folder(char folder[PATH_MAX]) {
  Dl_info info;
  char *path = NULL;
  if (dladdr(&hub_key, &info) && info.dli_fname && strchr(info.dli_fname, '/'))
    path = realpath(info.dli_fname, folder);
  if (!path) {
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (length <= 0)
      return false;
    folder[length] = 0;
  }
  char *slash = strrchr(folder, '/');
  if (!slash)
    return false;
  *slash = 0;
  return true;
}

/* Relative to that folder: the build's own tree; the module, a library or the command installed. */
static void push_path(lua_State *L) {
  char folder[PATH_MAX];
  if (!own_folder(folder)) {
    lua_pushliteral(L, "");
    return;
  }
  lua_pushfstring(L,
                  "%s/lua/?.lua;%s/?.lua;%s/../share/lua/5.4/?.lua;%s/../../share/lua/5.4/?.lua;"
                  "%s/../../../share/lua/5.4/?.lua",
                  folder, folder, folder, folder, folder);
}

/* A searcher for package.searchers.  Upvalues: the path, package.searchpath. */
static int l_search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (strncmp(name, "moonlet.", 8) != 0)
    return 0;
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_call(L, 2, 2);
  if (lua_isnil(L, -2))
    return 1;
  lua_pop(L, 1);
  if (luaL_loadfile(L, lua_tostring(L, -1)) != LUA_OK)
    return luaL_error(L, "error loading module '%s':\n\t%s", name, lua_tostring(L, -1));
  lua_insert(L, -2);
  return 2;
}

static void add_searcher(lua_State *L) {
  if (lua_getglobal(L, "package") != LUA_TTABLE || lua_getfield(L, -1, "searchers") != LUA_TTABLE) {
    lua_settop(L, lua_gettop(L) - 1);
    return;
  }
  push_path(L);
  lua_getfield(L, -3, "searchpath");
  lua_pushcclosure(L, l_search, 2);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  lua_pop(L, 2);
}

static void preload(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  luaL_setfuncs(L, moonlet_modules, 0);
  lua_pop(L, 1);
}

/* ---- the module ---- */

static void set_class(lua_State *L, const struct class_kind *kind) {
  class_push(L, kind);
  lua_setfield(L, -2, kind->name);
}

int luaopen_moonlet(lua_State *L) {
  luaL_checkversion(L);
  hub_open(L, NULL);
  preload(L);
  add_searcher(L);
  lua_createtable(L, 0, 32);
  luaL_setfuncs(L, control_functions, 0);
  luaL_setfuncs(L, greenlet_functions, 0);
  luaL_setfuncs(L, timeout_functions, 0);
  luaL_setfuncs(L, waits_functions, 0);
  luaL_setfuncs(L, report_functions, 0);
  luaL_setfuncs(L, signals_functions, 0);
  luaL_setfuncs(L, watchdog_functions, 0);
  luaL_setfuncs(L, fork_functions, 0);
  set_class(L, &greenlet_kind);
  set_class(L, &timeout_kind);
  set_class(L, &greenlet_exit_kind);
  set_class(L, &loop_exit_kind);
  lua_pushliteral(L, "Moonlet " MOONLET_VERSION);
  lua_setfield(L, -2, "_VERSION");
  return 1;
}
