/*
 * core.c: require "moonlet.zlib.core", streams of zlib's: what moonlet.zlib is made of.
 */
#define _GNU_SOURCE
#include <lauxlib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

__attribute__((visibility("default"))) int luaopen_moonlet_zlib_core(lua_State *L);

/* Output grows by so much. */
#define STEP 16384

struct codec {
  z_stream z;
  bool open;
  bool ended; /* the last byte has come out */
};

static const char deflater[] = "moonlet.zlib.Deflater", inflater[] = "moonlet.zlib.Inflater";

static void *allocate(void *unused, unsigned count, unsigned size) {
  (void)unused;
  return calloc(count, size);
}

static void release(void *unused, void *block) {
  (void)unused;
  free(block);
}

static struct codec *new_codec(lua_State *L, const char *name) {
  struct codec *self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = (struct codec){.z = {.zalloc = allocate, .zfree = release}};
  luaL_setmetatable(L, name);
  return self;
}

/* zlib's way to say which wrapping: 15 bits of window and ... */
static int check_format(lua_State *L, int arg, bool inflates) {
  static const char *const names[] = {"gzip", "zlib", "raw", "auto", NULL};
  static const int bits[] = {15 + 16, 15, -15, 15 + 32};
  int format = luaL_checkoption(L, arg, inflates ? "auto" : "gzip", names);
  luaL_argcheck(L, inflates || format < 3, arg, "a format is needed: gzip, zlib or raw");
  return bits[format];
}

/***
 * zlib.deflate([format [, level]]): a compressor.
 * @param format? "gzip"|"zlib"|"raw"  "gzip" if nothing is said
 * @param level? integer  from 0 to 9, more is smaller and slower
 * @return moonlet.zlib.Deflater
 * Source: zlib's deflateInit2.
 */
static int l_deflate(lua_State *L) {
  int bits = check_format(L, 1, false);
  lua_Integer level = luaL_optinteger(L, 2, Z_DEFAULT_COMPRESSION);
  luaL_argcheck(L, level >= -1 && level <= 9, 2, "from 0 to 9 expected");
  struct codec *self = new_codec(L, deflater);
  if (deflateInit2(&self->z, (int)level, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return luaL_error(L, "not enough memory");
  self->open = true;
  return 1;
}

/***
 * zlib.inflate([format]): a decompressor.
 * @param format? "auto"|"gzip"|"zlib"|"raw"  "auto" knows gzip and zlib apart
 * @return moonlet.zlib.Inflater
 * Source: zlib's inflateInit2.
 */
static int l_inflate(lua_State *L) {
  int bits = check_format(L, 1, true);
  struct codec *self = new_codec(L, inflater);
  if (inflateInit2(&self->z, bits) != Z_OK)
    return luaL_error(L, "not enough memory");
  self->open = true;
  return 1;
}

static const char *check_data(lua_State *L, size_t *size) {
  const char *data = luaL_checklstring(L, 2, size);
  luaL_argcheck(L, *size <= UINT_MAX, 2, "too long for one call");
  return data;
}

static struct codec *check(lua_State *L, const char *name) {
  struct codec *self = luaL_checkudata(L, 1, name);
  luaL_argcheck(L, self->open, 1, "closed");
  return self;
}

/***
 * Deflater:write(data [, flush]): compresses more.
 * @param data string
 * @param flush? "none"|"sync"|"finish"  "sync": all that was written can be read from what comes
 *   out; "finish": this was the end
 * @return string # what is ready, perhaps nothing
 * @raise an error after the end
 */
static int l_deflater_write(lua_State *L) {
  static const char *const names[] = {"none", "sync", "finish", NULL};
  static const int flushes[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
  struct codec *self = check(L, deflater);
  size_t size;
  const char *data = check_data(L, &size);
  int flush = flushes[luaL_checkoption(L, 3, "none", names)];
  luaL_argcheck(L, !self->ended, 1, "has come to its end");
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  self->z.next_in = (Bytef *)data;
  self->z.avail_in = (uInt)size;
  do {
    self->z.next_out = (Bytef *)luaL_prepbuffsize(&out, STEP);
    self->z.avail_out = STEP;
    self->ended = deflate(&self->z, flush) == Z_STREAM_END;
    luaL_addsize(&out, STEP - self->z.avail_out);
  } while (self->z.avail_out == 0);
  luaL_pushresult(&out);
  return 1;
}

/***
 * Inflater:write(data [, limit]): decompresses more.
 * @param data string
 * @param limit? integer  most bytes that may come out of this
 * @return string|nil # what is ready, perhaps nothing
 * @return boolean|string # whether the end was reached; with nil: "too long", or what is wrong
 * @return string # after the end: the bytes of `data` behind it
 */
static int l_inflater_write(lua_State *L) {
  struct codec *self = check(L, inflater);
  size_t size, limit, count = 0;
  const char *data = check_data(L, &size);
  limit = (size_t)luaL_optinteger(L, 3, LUA_MAXINTEGER);
  int status = self->ended ? Z_STREAM_END : Z_OK;
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  self->z.next_in = (Bytef *)data;
  self->z.avail_in = (uInt)size;
  while (status == Z_OK) {
    self->z.next_out = (Bytef *)luaL_prepbuffsize(&out, STEP);
    self->z.avail_out = STEP;
    status = inflate(&self->z, Z_SYNC_FLUSH);
    luaL_addsize(&out, STEP - self->z.avail_out);
    count += STEP - self->z.avail_out;
    if (count > limit) {
      luaL_pushfail(L);
      lua_pushliteral(L, "too long");
      return 2;
    }
  }
  self->ended = status == Z_STREAM_END;
  if (!self->ended && status != Z_BUF_ERROR) {
    luaL_pushfail(L);
    lua_pushstring(L, self->z.msg ? self->z.msg : "corrupt data");
    return 2;
  }
  luaL_pushresult(&out);
  lua_pushboolean(L, self->ended);
  lua_pushlstring(L, (const char *)self->z.next_in, self->z.avail_in);
  return 3;
}

/***
 * Deflater:close(): frees its memory; a second call does nothing.
 */
static int l_deflater_close(lua_State *L) {
  struct codec *self = luaL_checkudata(L, 1, deflater);
  if (self->open)
    deflateEnd(&self->z);
  self->open = false;
  return 0;
}

/***
 * Inflater:close(): frees its memory; a second call does nothing.
 */
static int l_inflater_close(lua_State *L) {
  struct codec *self = luaL_checkudata(L, 1, inflater);
  if (self->open)
    inflateEnd(&self->z);
  self->open = false;
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct codec *self = lua_touserdata(L, 1);
  luaL_getmetafield(L, 1, "__name");
  lua_pushfstring(L, "<%s: %I in, %I out%s>", lua_tostring(L, -1) + strlen("moonlet.zlib."),
                  (LUAI_UACINT)self->z.total_in, (LUAI_UACINT)self->z.total_out,
                  self->open ? "" : ", closed");
  return 1;
}

/***
 * @class moonlet.zlib.Deflater
 * A compressor, made by zlib.deflate.
 */
static const luaL_Reg deflater_methods[] = {
    {"write", l_deflater_write}, {"close", l_deflater_close}, {"__close", l_deflater_close},
    {"__gc", l_deflater_close},  {"__tostring", l_tostring},  {NULL, NULL}};

/***
 * @class moonlet.zlib.Inflater
 * A decompressor, made by zlib.inflate.
 */
static const luaL_Reg inflater_methods[] = {
    {"write", l_inflater_write}, {"close", l_inflater_close}, {"__close", l_inflater_close},
    {"__gc", l_inflater_close},  {"__tostring", l_tostring},  {NULL, NULL}};

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

static const luaL_Reg functions[] = {{"deflate", l_deflate}, {"inflate", l_inflate}, {NULL, NULL}};

int luaopen_moonlet_zlib_core(lua_State *L) {
  make_class(L, deflater, deflater_methods);
  make_class(L, inflater, inflater_methods);
  luaL_newlib(L, functions);
  return 1;
}
