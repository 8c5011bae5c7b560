/* core.c: require "moonlet.ssl.core", the half of moonlet.ssl that works on OpenSSL. */
#include "tls.h"

__attribute__((visibility("default"))) int luaopen_moonlet_ssl_core(lua_State *L);

/* A metatable whose methods are its own fields. */
static void make_type(lua_State *L, const char *name, const luaL_Reg *methods,
                      const luaL_Reg *metamethods) {
  if (luaL_newmetatable(L, name)) {
    luaL_setfuncs(L, methods, 0);
    luaL_setfuncs(L, metamethods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
}

static const luaL_Reg none[] = {{NULL, NULL}};

static void make_types(lua_State *L) {
  make_type(L, CONTEXT_TYPE, none, context_metamethods);
  make_type(L, CERTIFICATE_TYPE, certificate_methods, none);
  make_type(L, SESSION_TYPE, none, session_metamethods);
  make_type(L, TLS_TYPE, tls_methods, tls_metamethods);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, TRANSPORT_MARK);
  lua_pop(L, 4);
}

int luaopen_moonlet_ssl_core(lua_State *L) {
  luaL_checkversion(L);
  make_types(L);
  lua_createtable(L, 0, 4);
  lua_newtable(L);
  luaL_setfuncs(L, context_functions, 0);
  luaL_setfuncs(L, context_settings, 0);
  lua_setfield(L, -2, "context");
  lua_newtable(L);
  luaL_setfuncs(L, certificate_functions, 0);
  lua_setfield(L, -2, "certificate");
  lua_pushcfunction(L, tls_new);
  lua_setfield(L, -2, "transport");
  config_push(L);
  lua_setfield(L, -2, "config");
  return 1;
}
