/*
 * core.c: require "moonlet.wslay.core", the codec of moonlet.websocket as an object of Lua.
 *
 *     codec = core.codec(client, max_frame, max_message [, compression])
 *     codec:feed(bytes)
 *     kind, data, reason = codec:next()    -- until it returns nil: more bytes are needed
 *     bytes, more = codec:encode(kind, data)
 *     while more do bytes, more = codec:continue() end
 *     bytes = codec:control(kind, data)    -- between any two of those
 *
 * Kinds are "text", "binary", "ping", "pong" and "close"; `next` also knows "error".  With the
 * last two, data is the close code.  All bytes are whole frames.
 */
#include <string.h>

#include "codec.h"

__attribute__((visibility("default"))) int luaopen_moonlet_wslay_core(lua_State *L);

static const char class_name[] = "moonlet.wslay.codec";

/* User values: the strings whose bytes it is at. */
enum { UV_INPUT = 1, UV_OUTPUT };

/* Of the methods: memory for one frame and, apart from that, its compressed payload. */
#define SCRATCH_SIZE (OUTGOING_ROOM + MAX_FRAGMENT)

static struct codec *check(lua_State *L) {
  struct codec *self = luaL_checkudata(L, 1, class_name);
  luaL_argcheck(L, self->frames, 1, "codec is finalized");
  return self;
}

static uint8_t *scratch(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* Anchors the string at `index`, or nothing. */
static void anchor(lua_State *L, int index, int value) {
  lua_pushvalue(L, index);
  lua_setiuservalue(L, 1, value);
}

static void release(lua_State *L, int value) {
  lua_pushnil(L);
  lua_setiuservalue(L, 1, value);
}

/* ---- in ---- */

static int l_feed(lua_State *L) {
  struct incoming *in = &check(L)->in;
  size_t size;
  const char *data = luaL_checklstring(L, 2, &size);
  luaL_argcheck(L, !in->input_size, 2, "there are events left");
  if (in->over)
    return 0;
  anchor(L, 2, UV_INPUT);
  in->input = (const uint8_t *)data;
  in->input_size = size;
  return 0;
}

static int push_event(lua_State *L, const char *kind, const struct incoming *in) {
  lua_pushstring(L, kind);
  lua_pushlstring(L, (const char *)in->data, in->size);
  return 2;
}

static int l_next(lua_State *L) {
  struct codec *self = check(L);
  struct incoming *in = &self->in;
  switch (incoming_next(self)) {
  case EVENT_TEXT:
    return push_event(L, "text", in);
  case EVENT_BINARY:
    return push_event(L, "binary", in);
  case EVENT_PING:
    return push_event(L, "ping", in);
  case EVENT_PONG:
    return push_event(L, "pong", in);
  case EVENT_CLOSE:
    lua_pushliteral(L, "close");
    lua_pushinteger(L, in->code);
    lua_pushlstring(L, (const char *)in->data, in->size);
    return 3;
  case EVENT_ERROR:
    lua_pushliteral(L, "error");
    lua_pushinteger(L, in->code);
    lua_pushstring(L, in->problem);
    return 3;
  default:
    in->input_size = 0;
    release(L, UV_INPUT);
    return 0;
  }
}

/* ---- out ---- */

static int push_fragment(lua_State *L, struct codec *self) {
  uint8_t *room = scratch(L);
  size_t size = outgoing_fragment(self, room);
  if (!size)
    return luaL_error(L, "not enough memory");
  lua_pushlstring(L, (const char *)room, size);
  lua_pushboolean(L, self->out.active);
  return 2;
}

static int l_encode(lua_State *L) {
  static const char *const kinds[] = {"text", "binary", NULL};
  static const uint8_t opcodes[] = {WSLAY_TEXT_FRAME, WSLAY_BINARY_FRAME};
  struct codec *self = check(L);
  int kind = luaL_checkoption(L, 2, NULL, kinds);
  size_t size;
  const char *data = luaL_checklstring(L, 3, &size);
  if (self->out.active)
    return luaL_error(L, "another message is under way");
  outgoing_begin(self, opcodes[kind], (const uint8_t *)data, size);
  int results = push_fragment(L, self);
  if (self->out.active)
    anchor(L, 3, UV_OUTPUT);
  return results;
}

static int l_continue(lua_State *L) {
  struct codec *self = check(L);
  if (!self->out.active)
    return luaL_error(L, "no message is under way");
  int results = push_fragment(L, self);
  if (!self->out.active)
    release(L, UV_OUTPUT);
  return results;
}

static int push_control(lua_State *L, struct codec *self, uint8_t opcode, const uint8_t *data,
                        size_t size) {
  uint8_t room[MAX_HEADER + MAX_CONTROL];
  size = outgoing_control(self, opcode, data, size, room);
  if (!size)
    return luaL_error(L, "no random bytes");
  lua_pushlstring(L, (const char *)room, size);
  return 1;
}

/* Of a close frame: its code and reason, or nothing. */
static int push_close(lua_State *L, struct codec *self) {
  uint8_t payload[MAX_CONTROL];
  size_t length = 0;
  lua_Integer code = luaL_optinteger(L, 3, 0);
  const char *reason = luaL_optlstring(L, 4, "", &length);
  if (!code)
    return push_control(L, self, WSLAY_CONNECTION_CLOSE, payload, 0);
  luaL_argcheck(L, is_close_code(code), 3, "no close code");
  luaL_argcheck(L, length + 2 <= MAX_CONTROL, 4, "too long");
  payload[0] = (uint8_t)(code >> 8);
  payload[1] = (uint8_t)code;
  memcpy(payload + 2, reason, length);
  return push_control(L, self, WSLAY_CONNECTION_CLOSE, payload, length + 2);
}

static int l_control(lua_State *L) {
  static const char *const kinds[] = {"ping", "pong", "close", NULL};
  static const uint8_t opcodes[] = {WSLAY_PING, WSLAY_PONG};
  struct codec *self = check(L);
  int kind = luaL_checkoption(L, 2, NULL, kinds);
  if (kind == 2)
    return push_close(L, self);
  size_t size;
  const char *data = luaL_checklstring(L, 3, &size);
  luaL_argcheck(L, size <= MAX_CONTROL, 3, "too long");
  return push_control(L, self, opcodes[kind], (const uint8_t *)data, size);
}

/* ---- life ---- */

static int l_gc(lua_State *L) {
  struct codec *self = luaL_checkudata(L, 1, class_name);
  wslay_frame_context_free(self->frames);
  self->frames = NULL;
  bytes_free(&self->in.message);
  inflate_close(&self->in.inflater);
  deflate_close(&self->out.deflater);
  return 0;
}

/* An integer of the table at `index`. */
static lua_Integer get_field(lua_State *L, int index, const char *name, lua_Integer least,
                             lua_Integer most) {
  lua_getfield(L, index, name);
  lua_Integer value = luaL_checkinteger(L, -1);
  if (value < least || value > most)
    luaL_error(L, "field '%s' out of range", name);
  lua_pop(L, 1);
  return value;
}

static bool get_flag(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* zlib has no window of 8 bits for raw streams: then nothing is compressed. */
static void set_compression(lua_State *L, struct codec *self, int index) {
  struct compression *inflater = &self->in.inflater, *deflater = &self->out.deflater;
  inflater->bits = (uint8_t)get_field(L, index, "in_bits", 8, 15);
  inflater->reset = get_flag(L, index, "in_reset");
  deflater->bits = (uint8_t)get_field(L, index, "out_bits", 8, 15);
  deflater->bits = deflater->bits == 8 ? 0 : deflater->bits;
  deflater->reset = get_flag(L, index, "out_reset");
  deflater->level = (int8_t)get_field(L, index, "level", -1, 9);
  deflater->memory = (uint8_t)get_field(L, index, "memory", 1, 9);
  self->out.threshold = (size_t)get_field(L, index, "threshold", 0, INT32_MAX);
}

static int l_codec(lua_State *L) {
  static const struct wslay_frame_callbacks callbacks = {outgoing_callback, incoming_callback,
                                                         outgoing_mask};
  bool client = lua_toboolean(L, 1);
  lua_Integer max_frame = luaL_checkinteger(L, 2), max_message = luaL_checkinteger(L, 3);
  luaL_argcheck(L, max_frame > 0, 2, "must be positive");
  luaL_argcheck(L, max_message > 0, 3, "must be positive");
  lua_settop(L, 4);
  struct codec *self = lua_newuserdatauv(L, sizeof *self, 2);
  memset(self, 0, sizeof *self);
  luaL_setmetatable(L, class_name);
  self->client = client;
  self->in.max_frame = (uint64_t)max_frame;
  self->in.max_message = (uint64_t)max_message;
  if (lua_istable(L, 4))
    set_compression(L, self, 4);
  if (wslay_frame_context_init(&self->frames, &callbacks, self) != 0)
    return luaL_error(L, "not enough memory");
  return 1;
}

/* ---- the module ---- */

static int l_is_utf8(lua_State *L) {
  struct utf8 utf8 = {0};
  size_t size;
  const char *data = luaL_checklstring(L, 1, &size);
  lua_pushboolean(L, utf8_feed(&utf8, (const uint8_t *)data, size) && utf8_complete(&utf8));
  return 1;
}

static int l_is_close_code(lua_State *L) {
  lua_Integer code = luaL_checkinteger(L, 1);
  lua_pushboolean(L, is_close_code(code));
  return 1;
}

static const luaL_Reg methods[] = {
    {"feed", l_feed},       {"next", l_next}, {"encode", l_encode}, {"continue", l_continue},
    {"control", l_control}, {"__gc", l_gc},   {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"codec", l_codec}, {"is_utf8", l_is_utf8}, {"is_close_code", l_is_close_code}, {NULL, NULL}};

int luaopen_moonlet_wslay_core(lua_State *L) {
  luaL_checkversion(L);
  luaL_newmetatable(L, class_name);
  lua_newuserdatauv(L, SCRATCH_SIZE, 0);
  luaL_setfuncs(L, methods, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_createtable(L, 0, 8);
  luaL_setfuncs(L, functions, 0);
  luaL_setfuncs(L, digest_functions, 0);
  return 1;
}
