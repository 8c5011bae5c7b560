/* core.c: require "moonlet.ssl.core", the half of moonlet.ssl that works on OpenSSL. */
#include <lauxlib.h>
#include <openssl/crypto.h>

__attribute__((visibility("default"))) int luaopen_moonlet_ssl_core(lua_State *L);

int luaopen_moonlet_ssl_core(lua_State *L) {
  luaL_checkversion(L);
  lua_createtable(L, 0, 1);
  lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION));
  lua_setfield(L, -2, "library");
  return 1;
}
