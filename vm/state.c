/* state.c: a Lua state with what luaL_newstate gives one (see state.h). */
#include "state.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "heap.h"

struct warnings {
  bool on;    /* as warn("@on") and warn("@off") say */
  bool begun; /* a message of several pieces */
};

/* A thread has one such state. */
static _Thread_local struct warnings warnings;

/* As the manual describes warn: pieces of a message up to the last, and control messages. */
static void warn(void *data, const char *message, int to_be_continued) {
  struct warnings *w = data;
  if (!w->begun && !to_be_continued && message[0] == '@') {
    if (strcmp(message, "@on") == 0)
      w->on = true;
    else if (strcmp(message, "@off") == 0)
      w->on = false;
    return;
  }
  if (w->on) {
    fprintf(stderr, "%s%s%s", w->begun ? "" : "Lua warning: ", message,
            to_be_continued ? "" : "\n");
    fflush(stderr);
  }
  w->begun = to_be_continued;
}

/* An error that nothing catches: Lua aborts when this returns. */
static int panic(lua_State *L) {
  const char *message = lua_tostring(L, -1);
  fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
          message ? message : "error object is not a string");
  fflush(stderr);
  return 0;
}

lua_State *state_new(void) {
  struct heap *heap = heap_new();
  lua_State *L = heap ? lua_newstate(heap_allocate, heap) : NULL;
  if (L) {
    lua_atpanic(L, panic);
    lua_setwarnf(L, warn, &warnings);
  } else if (heap) {
    heap_free(heap);
  }
  return L;
}

void state_close(lua_State *L) {
  void *heap;
  bool own = lua_getallocf(L, &heap) == heap_allocate; /* nobody has put another in its place */
  lua_close(L);
  if (own)
    heap_free(heap);
}
