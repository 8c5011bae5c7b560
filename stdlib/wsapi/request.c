/* request.c: see request.h. */
#define _GNU_SOURCE
#include "request.h"

#include <string.h>

#include "../llhttp/reader.h"
#include "../socket/stream.h"

/* On the stack of `read`, and its upvalues. */
enum { SOCK = 1, HOST, PORT, FIRST, READER, REST, ENV, UPGRADE = ENV + 4 };
enum { UP_SPARE = 1, UP_META, UP_KEEP, UP_NAME_HOST, UP_NAME_PORT };

/* How HTTP/2 begins, or so much of it as there is. */
static bool is_preface(const char *data, size_t size) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  return memcmp(data, preface, size < sizeof preface - 1 ? size : sizeof preface - 1) == 0;
}

static int push_bytes(lua_State *L, const char *data, size_t size) {
  lua_pushboolean(L, 0);
  lua_pushlstring(L, data, size);
  return 2;
}

static void set(lua_State *L, int name, int value) {
  lua_pushvalue(L, lua_upvalueindex(name));
  lua_pushvalue(L, value);
  lua_rawset(L, ENV);
}

static int push_request(lua_State *L, struct reader *reader, bool whole) {
  reader->kind->push(L, READER);
  set(L, UP_NAME_HOST, HOST);
  set(L, UP_NAME_PORT, PORT);
  lua_pushvalue(L, lua_upvalueindex(UP_META));
  lua_setmetatable(L, ENV);
  bool kept = lua_toboolean(L, lua_upvalueindex(UP_KEEP)) || lua_toboolean(L, UPGRADE);
  if (whole && !kept && reader->kind->leave(reader))
    return 6;
  lua_pushboolean(L, 0);
  lua_rawseti(L, lua_upvalueindex(UP_SPARE), 1);
  lua_pushvalue(L, REST);
  lua_pushvalue(L, READER);
  return 8;
}

/* The bytes are in memory that others may use as soon as Lua runs. */
static int arrived(lua_State *L, const char *data, size_t size) {
  size_t used;
  lua_rawgeti(L, lua_upvalueindex(UP_SPARE), 1);
  struct reader *reader = lua_touserdata(L, READER);
  if (!reader || (lua_toboolean(L, FIRST) && is_preface(data, size)))
    return push_bytes(L, data, size);
  if (!reader->kind->read(reader, data, size, &used)) {
    reader->kind->reset(reader);
    return push_bytes(L, data, size);
  }
  if (used == size)
    lua_pushnil(L);
  else
    lua_pushlstring(L, data + used, size - used);
  return push_request(L, reader, used == size);
}

static int read_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, SOCK);
  if (sock_gone(&self->sock))
    return lua_pushnil(L), 1;
  char *data = io_scratch(L, self->sock.hub);
  ssize_t count = stream_read(self, data, IO_SCRATCH);
  if (likely(count > 0)) {
    self->sock.received += (uint64_t)count;
    return arrived(L, data, (size_t)count);
  }
  if ((count == TRANSPORT_WANT_READ || count == TRANSPORT_WANT_WRITE) && !timed_out)
    return sock_again(&self->sock, stream_events(count), self->sock.read_due);
  return lua_pushnil(L), 1;
}

static int l_read(lua_State *L) {
  static const struct wait_kind kind = {"an HTTP request", read_step, SOCK_READING};
  struct stream *self = stream_check(L);
  lua_settop(L, FIRST);
  return sock_read(L, &self->sock, &kind);
}

int wsapi_reader(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, UP_KEEP);
  lua_pushliteral(L, "REMOTE_ADDR");
  lua_pushliteral(L, "REMOTE_PORT");
  lua_pushcclosure(L, l_read, UP_NAME_PORT);
  return 1;
}
