/* context.c: contexts, what connections have in common; context_settings.c fills them. */
#include <openssl/err.h>
#include <string.h>

#include "tls.h"

/* ---- protocols ---- */

static const struct {
  const char *name;
  int lowest, highest; /* highest 0: the newest there is */
} protocols[] = {{"any", TLS1_2_VERSION, 0},
                 {"sslv23", TLS1_2_VERSION, 0},
                 {"tlsv1", TLS1_VERSION, TLS1_VERSION},
                 {"tlsv1_1", TLS1_1_VERSION, TLS1_1_VERSION},
                 {"tlsv1_2", TLS1_2_VERSION, TLS1_2_VERSION},
                 {"tlsv1_3", TLS1_3_VERSION, TLS1_3_VERSION}};

static int find_protocol(const char *name) {
  for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
    if (strcmp(name, protocols[i].name) == 0)
      return (int)i;
  return -1;
}

/* ---- making one ---- */

/* Renegotiation is of no use and an attack upon servers; memory is not held while nothing moves. */
static void set_defaults(SSL_CTX *ssl, bool server) {
  SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  if (server) {
    static const unsigned char name[] = "moonlet";
    SSL_CTX_set_session_id_context(ssl, name, sizeof name - 1);
    SSL_CTX_set_tlsext_servername_callback(ssl, callbacks_server_name);
    SSL_CTX_set_dh_auto(ssl, 1);
  } else {
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, session_remember);
  }
}

/* context.new(server, protocol) -> context | nil, message */
static int l_new(lua_State *L) {
  bool server = lua_toboolean(L, 1);
  const char *name = luaL_checkstring(L, 2);
  int protocol = find_protocol(name);
  if (protocol < 0) {
    lua_pushnil(L);
    lua_pushfstring(L, "invalid protocol (%s)", name);
    return 2;
  }
  struct context *context = lua_newuserdatauv(L, sizeof *context, CONTEXT_VALUES);
  *context = (struct context){.server = server};
  luaL_setmetatable(L, CONTEXT_TYPE);
  ERR_clear_error();
  context->ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (!context->ssl)
    return errors_push(L);
  set_defaults(context->ssl, server);
  SSL_CTX_set_min_proto_version(context->ssl, protocols[protocol].lowest);
  SSL_CTX_set_max_proto_version(context->ssl, protocols[protocol].highest);
  return 1;
}

struct context *context_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, CONTEXT_TYPE);
}

/* context.isserver(context) -> boolean */
static int l_is_server(lua_State *L) {
  lua_pushboolean(L, context_check(L, 1)->server);
  return 1;
}

static int l_gc(lua_State *L) {
  struct context *context = context_check(L, 1);
  SSL_CTX_free(context->ssl);
  OPENSSL_free(context->alpn);
  context->ssl = NULL;
  context->alpn = NULL;
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct context *context = context_check(L, 1);
  lua_pushfstring(L, "SSL context: %p (%s)", context, context->server ? "server" : "client");
  return 1;
}

const luaL_Reg context_functions[] = {{"new", l_new}, {"isserver", l_is_server}, {NULL, NULL}};

const luaL_Reg context_metamethods[] = {{"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
