/* core.c: require "moonlet.zmq.core", libzmq without waiting: what moonlet.zmq is made of. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "binding.h"

__attribute__((visibility("default"))) int luaopen_moonlet_zmq_core(lua_State *L);

unsigned binding_forks;

static void count_fork(void) { binding_forks++; }

static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

int binding_check_time(lua_State *L, int arg) {
  double milliseconds = luaL_checknumber(L, arg) * 1e3;
  return milliseconds >= 0 && milliseconds <= INT_MAX ? (int)milliseconds : -1;
}

int binding_fail(lua_State *L, int code) {
  luaL_pushfail(L);
  lua_pushstring(L, zmq_strerror(code));
  lua_pushinteger(L, code);
  return 3;
}

/***
 * zmq.version(): the version of libzmq.
 * @return string # "4.3.4"
 * Source: zmq_version.
 */
static int l_version(lua_State *L) {
  int major, minor, patch;
  zmq_version(&major, &minor, &patch);
  lua_pushfstring(L, "%d.%d.%d", major, minor, patch);
  return 1;
}

/***
 * zmq.has(capability): whether libzmq was built with it.
 * @param capability string  "ipc", "curve", "pgm" ...
 * @return boolean
 * Source: zmq_has.
 */
static int l_has(lua_State *L) {
  lua_pushboolean(L, zmq_has(luaL_checkstring(L, 1)));
  return 1;
}

#define KEY_SIZE 40 /* in Z85 */

/***
 * zmq.curve_keypair(): a new pair of keys for CURVE.
 * @return string|nil # the public one, in Z85
 * @return string # the secret one; or the reason: libzmq was built without CURVE
 * @return integer # the errno
 * Source: zmq_curve_keypair.
 */
static int l_curve_keypair(lua_State *L) {
  char public_key[KEY_SIZE + 1], secret_key[KEY_SIZE + 1];
  if (zmq_curve_keypair(public_key, secret_key) != 0)
    return binding_fail(L, errno);
  lua_pushstring(L, public_key);
  lua_pushstring(L, secret_key);
  return 2;
}

/***
 * zmq.curve_public(secret): the public key that belongs to a secret one.
 * @param secret string  in Z85
 * @return string|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_curve_public.
 */
static int l_curve_public(lua_State *L) {
  size_t size;
  const char *secret = luaL_checklstring(L, 1, &size);
  char public_key[KEY_SIZE + 1];
  luaL_argcheck(L, size == KEY_SIZE, 1, "a key of 40 characters expected");
  if (zmq_curve_public(public_key, secret) != 0)
    return binding_fail(L, errno);
  lua_pushstring(L, public_key);
  return 1;
}

/***
 * zmq.z85_encode(data): binary data as text that can be printed.
 * @param data string  its length is a multiple of 4
 * @return string
 * Source: zmq_z85_encode.
 */
static int l_z85_encode(lua_State *L) {
  size_t size;
  const char *data = luaL_checklstring(L, 1, &size);
  luaL_argcheck(L, size % 4 == 0, 1, "a length that is a multiple of 4 expected");
  luaL_Buffer text;
  char *to = luaL_buffinitsize(L, &text, size / 4 * 5 + 1);
  if (!zmq_z85_encode(to, (const uint8_t *)data, size))
    return luaL_argerror(L, 1, zmq_strerror(errno));
  luaL_pushresultsize(&text, size / 4 * 5);
  return 1;
}

/***
 * zmq.z85_decode(text): the binary data again.
 * @param text string
 * @return string|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_z85_decode.
 */
static int l_z85_decode(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  luaL_Buffer data;
  if (size % 5 != 0 || strlen(text) != size)
    return binding_fail(L, EINVAL);
  char *to = luaL_buffinitsize(L, &data, size / 5 * 4 + 1);
  if (size > 0 && !zmq_z85_decode((uint8_t *)to, text))
    return binding_fail(L, errno);
  luaL_pushresultsize(&data, size / 5 * 4);
  return 1;
}

/* Leaves the class, which is its objects' metatable. */
static void make_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

static void push_operations(lua_State *L) {
  lua_newtable(L);
  for (const struct named_operation *it = message_operations; it->name; it++) {
    lua_pushlightuserdata(L, (void *)&it->operation);
    lua_setfield(L, -2, it->name);
  }
}

static const luaL_Reg functions[] = {{"context", context_new},
                                     {"socket", socket_new},
                                     {"version", l_version},
                                     {"has", l_has},
                                     {"curve_keypair", l_curve_keypair},
                                     {"curve_public", l_curve_public},
                                     {"z85_encode", l_z85_encode},
                                     {"z85_decode", l_z85_decode},
                                     {NULL, NULL}};

int luaopen_moonlet_zmq_core(lua_State *L) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  luaL_newlib(L, functions);
  make_class(L, CONTEXT_TYPE, context_methods);
  lua_setfield(L, -2, "Context");
  make_class(L, SOCKET_TYPE, socket_methods);
  lua_setfield(L, -2, "Socket");
  push_operations(L);
  lua_setfield(L, -2, "operations");
  constants_push(L);
  lua_setfield(L, -2, "constants");
  return 1;
}
