/* core.c: moonlet.wsapi.core, the C half of moonlet.wsapi. */
#include <lauxlib.h>
#include <stdbool.h>

#include "exchange.h"
#include "file.h"
#include "head.h"
#include "reason.h"

/* head(status, headers, body, minor, keepalive, head_only): the text of the head, as head_compose
   writes it; the word for what is to follow; the body's length; whether another request may
   follow; the status as a number. */
static int l_head(lua_State *L) {
  char room[HEAD_ROOM];
  struct head head = {.L = L,
                      .at = 1,
                      .minor = (int)lua_tointeger(L, 4),
                      .keepalive = lua_toboolean(L, 5),
                      .head_only = lua_toboolean(L, 6),
                      .text = room,
                      .capacity = sizeof room};
  lua_settop(L, HEAD_MEMORY);
  lua_settop(L, HEAD_PLACES);
  const char *follows = head_compose(&head);
  lua_pushlstring(L, head.text, head.size);
  lua_pushstring(L, follows);
  lua_pushinteger(L, head.length);
  lua_pushboolean(L, head.keepalive);
  lua_pushinteger(L, head.status);
  return 5;
}

/* fields(headers): the text of trailers. */
static int l_fields(lua_State *L) {
  char room[HEAD_ROOM];
  struct head head = {.L = L, .at = 1, .text = room, .capacity = sizeof room};
  lua_settop(L, 1);
  lua_pushnil(L);
  lua_insert(L, 1);
  lua_settop(L, HEAD_PLACES);
  head_add_trailers(&head);
  lua_pushlstring(L, head.text, head.size);
  return 1;
}

static int l_reason(lua_State *L) {
  lua_pushstring(L, reason_of((int)luaL_checkinteger(L, 1)));
  return 1;
}

MOONLET_API int luaopen_moonlet_wsapi_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"head", l_head},
                                       {"fields", l_fields},
                                       {"reason", l_reason},
                                       {"accept", tcp_accept_into},
                                       {"conversation", wsapi_conversation},
                                       {"respond", wsapi_respond},
                                       {"open", wsapi_open},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
