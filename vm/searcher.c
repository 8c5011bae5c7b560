/* searcher.c: see searcher.h. */
#define _GNU_SOURCE
#include "searcher.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"
#include "modules.h"

/* Upvalues of the searcher. */
enum { UP_LUA_PATH = 1, UP_C_PATH, UP_SEARCHPATH, UP_LOADLIB };

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
static void push_paths(lua_State *L) {
  char folder[PATH_MAX];
  if (!own_folder(folder)) {
    lua_pushliteral(L, "");
    lua_pushliteral(L, "");
    return;
  }
  lua_pushfstring(L,
                  "%s/lua/?.lua;%s/?.lua;%s/../share/lua/5.4/?.lua;%s/../../share/lua/5.4/?.lua;"
                  "%s/../../../share/lua/5.4/?.lua",
                  folder, folder, folder, folder, folder);
  lua_pushfstring(L,
                  "%s/lua/?.so;%s/?.so;%s/lua/5.4/?.so;%s/../lua/5.4/?.so;%s/../lib/lua/5.4/?.so",
                  folder, folder, folder, folder, folder);
}

/* Pushes the file of the module named at 1 and returns true, or what was tried and false. */
static bool find(lua_State *L, int path) {
  lua_pushvalue(L, lua_upvalueindex(UP_SEARCHPATH));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, lua_upvalueindex(path));
  lua_call(L, 2, 2);
  bool found = !lua_isnil(L, -2);
  lua_remove(L, found ? -1 : -2);
  return found;
}

static int raise_at_load(lua_State *L, const char *file, const char *message) {
  return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", lua_tostring(L, 1), file,
                    message);
}

/* A module in a shared object; its file is on top. */
static int load_c(lua_State *L) {
  const char *file = lua_tostring(L, -1);
  const char *symbol = luaL_gsub(L, lua_tostring(L, 1), ".", "_");
  lua_pushvalue(L, lua_upvalueindex(UP_LOADLIB));
  lua_pushstring(L, file);
  lua_pushfstring(L, "luaopen_%s", symbol);
  lua_call(L, 2, 2);
  if (lua_isnil(L, -2))
    return raise_at_load(L, file, lua_tostring(L, -1));
  lua_pop(L, 1);
  lua_pushstring(L, file);
  return 2;
}

static int load_lua(lua_State *L) {
  const char *file = lua_tostring(L, -1);
  if (luaL_loadfile(L, file) != LUA_OK)
    return raise_at_load(L, file, lua_tostring(L, -1));
  lua_pushstring(L, file);
  return 2;
}

/* Says of a module that is built only where its library is what was missing. */
static void check_extension(lua_State *L, const char *name) {
  for (const struct extension *extension = moonlet_extensions; extension->name; extension++)
    if (strcmp(name, extension->name) == 0)
      luaL_error(L,
                 "%s is missing: Moonlet was built without %s; install %s (Debian's name for it) "
                 "and build again",
                 name, extension->library, extension->package);
}

static int l_search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (strncmp(name, "moonlet.", 8) != 0)
    return 0;
  lua_settop(L, 1);
  if (find(L, UP_LUA_PATH))
    return load_lua(L);
  if (find(L, UP_C_PATH))
    return load_c(L);
  check_extension(L, name);
  lua_pushfstring(L, "%s\n\t%s", lua_tostring(L, 2), lua_tostring(L, 3));
  return 1;
}

void searcher_install(lua_State *L) {
  int top = lua_gettop(L);
  if (lua_getglobal(L, "package") == LUA_TTABLE && lua_getfield(L, -1, "searchers") == LUA_TTABLE) {
    push_paths(L);
    lua_getfield(L, top + 1, "searchpath");
    lua_getfield(L, top + 1, "loadlib");
    lua_pushcclosure(L, l_search, 4);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  }
  lua_settop(L, top);
}
