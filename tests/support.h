/*
 * support.h: what the C tests share.  A test is a program that ends with status 0, or says
 * on stderr which check failed, and where.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "moonlet.h"

#define check(condition) ((condition) ? (void)0 : fail_check(__FILE__, __LINE__, #condition, NULL))

static inline void fail_check(const char *file, int line, const char *what, const char *detail) {
  fprintf(stderr, "%s:%d: failed: %s%s%s\n", file, line, what, detail ? ": " : "",
          detail ? detail : "");
  exit(1);
}

/* Seconds on a clock that never jumps. */
static inline double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A Lua state with its libraries, and with a runtime (in a loop of the caller's, or NULL). */
static inline lua_State *new_state(void) {
  lua_State *L = luaL_newstate();
  check(L != NULL);
  luaL_openlibs(L);
  return L;
}

static inline lua_State *open_state(struct ev_loop *loop) {
  lua_State *L = new_state();
  if (moonlet_open(L, loop) != LUA_OK)
    fail_check(__FILE__, __LINE__, "moonlet_open", lua_tostring(L, -1));
  check(luaL_dostring(L, "moonlet = require 'moonlet'") == LUA_OK);
  return L;
}

static inline void close_state(lua_State *L) {
  moonlet_close(L);
  lua_close(L);
}

/* Runs Lua code that must succeed. */
#define run(L, code) run_code(L, code, __FILE__, __LINE__)

static inline void run_code(lua_State *L, const char *code, const char *file, int line) {
  int top = lua_gettop(L);
  if (luaL_dostring(L, code) != LUA_OK)
    fail_check(file, line, code, luaL_tolstring(L, -1, NULL));
  lua_settop(L, top);
}

/* Runs Lua code that must raise an error whose text contains `text`. */
#define run_fails(L, code, text) run_failing(L, code, text, __FILE__, __LINE__)

static inline void run_failing(lua_State *L, const char *code, const char *text, const char *file,
                               int line) {
  int top = lua_gettop(L);
  if (luaL_dostring(L, code) == LUA_OK)
    fail_check(file, line, code, "no error was raised");
  if (!strstr(luaL_tolstring(L, -1, NULL), text))
    fail_check(file, line, text, lua_tostring(L, -1));
  lua_settop(L, top);
}

/* The global of that name, which must be an integer. */
static inline lua_Integer global(lua_State *L, const char *name) {
  lua_getglobal(L, name);
  int is;
  lua_Integer value = lua_tointegerx(L, -1, &is);
  lua_pop(L, 1);
  if (!is)
    fail_check(__FILE__, __LINE__, name, "no such number");
  return value;
}

/* Ends a test that hangs. */
static inline void limit_time(unsigned seconds) { alarm(seconds); }

#endif
