/* digest.c: what the opening handshake computes, on nettle (see codec.h). */
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <nettle/version.h>
#include <string.h>
#include <sys/random.h>

#include "codec.h"

enum { KEY_SIZE = 16, KEY_LENGTH = 24, GUID_LENGTH = 36 };

static int push_base64(lua_State *L, const uint8_t *data, size_t size) {
  char text[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE)];
  base64_encode_raw(text, size, data);
  lua_pushlstring(L, text, BASE64_ENCODE_RAW_LENGTH(size));
  return 1;
}

/* A fresh key: 16 random bytes in base64. */
static int l_key(lua_State *L) {
  uint8_t bytes[KEY_SIZE];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    return luaL_error(L, "no random bytes");
  return push_base64(L, bytes, sizeof bytes);
}

/* Whether a string is 16 bytes in base64. */
static int l_is_key(lua_State *L) {
  size_t length, size = KEY_LENGTH;
  const char *key = luaL_checklstring(L, 1, &length);
  uint8_t bytes[BASE64_DECODE_LENGTH(KEY_LENGTH)];
  struct base64_decode_ctx decoder;
  base64_decode_init(&decoder);
  lua_pushboolean(L, length == KEY_LENGTH && !strpbrk(key, " \t\r\n\v\f") &&
                         base64_decode_update(&decoder, &size, bytes, length, key) &&
                         base64_decode_final(&decoder) && size == KEY_SIZE);
  return 1;
}

/* The answer to a key. */
static int l_accept(lua_State *L) {
  static const uint8_t guid[GUID_LENGTH + 1] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  size_t length;
  const char *key = luaL_checklstring(L, 1, &length);
  uint8_t digest[SHA1_DIGEST_SIZE];
  struct sha1_ctx sha1;
  sha1_init(&sha1);
  sha1_update(&sha1, length, (const uint8_t *)key);
  sha1_update(&sha1, GUID_LENGTH, guid);
#if NETTLE_VERSION_MAJOR >= 4
  sha1_digest(&sha1, digest);
#else
  sha1_digest(&sha1, sizeof digest, digest);
#endif
  return push_base64(L, digest, sizeof digest);
}

const luaL_Reg digest_functions[] = {
    {"key", l_key}, {"is_key", l_is_key}, {"accept", l_accept}, {NULL, NULL}};
