/* connection.c: a transport's methods in Lua: what to know about a connection, and to tell it. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

struct tls *tls_check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, TLS_TYPE);
}

struct tls *tls_of(const SSL *ssl) {
  return SSL_get_app_data(ssl);
}

/* ---- life ---- */

int tls_new(lua_State *L) {
  struct context *context = context_check(L, 1);
  struct tls *tls = lua_newuserdatauv(L, sizeof *tls, TLS_VALUES);
  *tls = (struct tls){.transport = {.kind = &tls_kind, .fd = -1}, .context = context};
  luaL_setmetatable(L, TLS_TYPE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_CONTEXT);
  if (lua_getiuservalue(L, 1, UV_ALPN) != LUA_TNIL)
    callbacks_prepare(L, -2, tls);
  lua_pop(L, 1);
  tls->ssl = SSL_new(context->ssl);
  BIO *bio = tls->ssl ? tls_new_bio(tls) : NULL;
  if (!bio)
    return luaL_error(L, "not enough memory");
  SSL_set_app_data(tls->ssl, tls);
  SSL_set_bio(tls->ssl, bio, bio);
  if (context->server)
    SSL_set_accept_state(tls->ssl);
  else
    SSL_set_connect_state(tls->ssl);
  return 1;
}

static int l_gc(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  SSL_free(tls->ssl);
  SSL_SESSION_free(tls->session);
  verify_free(tls);
  free(tls->held);
  free(tls->message);
  free(tls->name);
  *tls = (struct tls){.transport = {.kind = &tls_kind, .fd = -1}};
  return 0;
}

/* ---- names ---- */

static bool is_address(const char *name) {
  unsigned char address[sizeof(struct in6_addr)];
  return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* What is asked for, and what the certificate has to be for. */
static bool set_name(struct tls *tls) {
  X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
  if (is_address(tls->name))
    return X509_VERIFY_PARAM_set1_ip_asc(param, tls->name) == 1;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, tls->name, 0) == 1 &&
         SSL_set_tlsext_host_name(tls->ssl, tls->name) == 1;
}

/* setname(name) -> true | nil, message: the peer's, for a client */
static int l_set_name(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  size_t length;
  const char *name = luaL_checklstring(L, 2, &length);
  luaL_argcheck(L, length > 0 && strlen(name) == length, 2, "not a host's name");
  if (name[length - 1] == '.') /* of the root */
    length--;
  ERR_clear_error();
  SSL_set_session(tls->ssl, NULL); /* it was for another name */
  free(tls->name);
  tls->name = strndup(name, length);
  if (!tls->name || !set_name(tls))
    return errors_push(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* setselect(f, strict): f(name | nil) returns the context of a server for that name, or nil: its
   own, if not strict */
static int l_set_select(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  tls->strict = lua_toboolean(L, 3);
  lua_settop(L, 2);
  callbacks_prepare(L, 1, tls);
  lua_setiuservalue(L, 1, UV_SELECT);
  tls->selects = true;
  return 0;
}

/* servername() -> string | nil: what the client has asked for */
static int l_server_name(lua_State *L) {
  lua_pushstring(L, SSL_get_servername(tls_check(L, 1)->ssl, TLSEXT_NAMETYPE_host_name));
  return 1;
}

/* ---- the peer's certificates ---- */

/* The n-th of the chain, the peer's own being the first, with a reference; or NULL. */
static X509 *get_certificate(const struct tls *tls, lua_Integer n) {
  STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls->ssl);
  if (n == 1)
    return SSL_get1_peer_certificate(tls->ssl);
  lua_Integer index = SSL_is_server(tls->ssl) ? n - 2 : n - 1; /* a server's has it not */
  if (!chain || index >= sk_X509_num(chain))
    return NULL;
  X509 *x509 = sk_X509_value(chain, (int)index);
  X509_up_ref(x509);
  return x509;
}

static int l_peer_certificate(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  lua_Integer n = luaL_optinteger(L, 2, 1);
  luaL_argcheck(L, n > 0, 2, "invalid certificate index");
  certificate_push(L, get_certificate(tls, n));
  return 1;
}

static int l_peer_chain(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  X509 *x509;
  lua_newtable(L);
  for (lua_Integer n = 1; (x509 = get_certificate(tls, n)); n++) {
    certificate_push(L, x509);
    lua_rawseti(L, -2, n);
  }
  return 1;
}

/* Pushes {[depth + 1] = {message, ...}}. */
static void push_errors(lua_State *L, const struct verify_errors *errors) {
  lua_newtable(L);
  for (int i = 0; i < errors->count; i++) {
    if (lua_rawgeti(L, -1, errors->list[i].depth + 1) == LUA_TNIL) {
      lua_newtable(L);
      lua_pushvalue(L, -1);
      lua_rawseti(L, -4, errors->list[i].depth + 1);
      lua_remove(L, -2);
    }
    lua_pushstring(L, X509_verify_cert_error_string(errors->list[i].code));
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
  }
}

/* verification() -> true | false, table (if the context goes on when it fails) or message */
static int l_verification(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  long result = SSL_get_verify_result(tls->ssl);
  if (!tls->errors && !SSL_is_init_finished(tls->ssl)) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "no handshake yet");
    return 2;
  }
  lua_pushboolean(L, result == X509_V_OK && !tls->errors);
  if (lua_toboolean(L, -1))
    return 1;
  if (tls->errors && tls->context->continues)
    push_errors(L, tls->errors);
  else
    lua_pushstring(L, tls->problem ? tls->problem : X509_verify_cert_error_string(result));
  return 2;
}

/* ---- the connection ---- */

/* finished(peer) -> string | nil: the message that ended the handshake */
static int l_finished(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  char data[EVP_MAX_MD_SIZE];
  size_t size = lua_toboolean(L, 2) ? SSL_get_peer_finished(tls->ssl, data, sizeof data)
                                    : SSL_get_finished(tls->ssl, data, sizeof data);
  if (size == 0)
    return luaL_pushfail(L), 1;
  lua_pushlstring(L, data, size);
  return 1;
}

/* info() -> nil | name, description, bits, bits of the algorithm, protocol, resumed */
static int l_info(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
  char description[256];
  int of_algorithm;
  if (!cipher)
    return luaL_pushfail(L), 1;
  int bits = SSL_CIPHER_get_bits(cipher, &of_algorithm);
  lua_pushstring(L, SSL_CIPHER_get_name(cipher));
  lua_pushstring(L, SSL_CIPHER_description(cipher, description, sizeof description));
  lua_pushinteger(L, bits);
  lua_pushinteger(L, of_algorithm);
  lua_pushstring(L, SSL_get_version(tls->ssl));
  lua_pushboolean(L, SSL_session_reused(tls->ssl));
  return 6;
}

static int l_alpn(lua_State *L) {
  const unsigned char *name;
  unsigned size;
  SSL_get0_alpn_selected(tls_check(L, 1)->ssl, &name, &size);
  if (size == 0)
    return luaL_pushfail(L), 1;
  lua_pushlstring(L, (const char *)name, size);
  return 1;
}

static int l_want(lua_State *L) {
  switch (SSL_want(tls_check(L, 1)->ssl)) {
  case SSL_READING:
    lua_pushliteral(L, "read");
    break;
  case SSL_WRITING:
    lua_pushliteral(L, "write");
    break;
  default:
    lua_pushliteral(L, "nothing");
  }
  return 1;
}

/* export(label, size [, context]) -> string | nil, message */
static int l_export(lua_State *L) {
  const struct tls *tls = tls_check(L, 1);
  size_t label_size, context_size = 0;
  const char *label = luaL_checklstring(L, 2, &label_size);
  lua_Integer size = luaL_checkinteger(L, 3);
  const char *context = luaL_optlstring(L, 4, NULL, &context_size);
  luaL_argcheck(L, size > 0 && size <= 65536, 3, "out of range");
  luaL_Buffer buffer;
  unsigned char *out = (unsigned char *)luaL_buffinitsize(L, &buffer, (size_t)size);
  ERR_clear_error();
  if (SSL_export_keying_material(tls->ssl, out, (size_t)size, label, label_size,
                                 (const unsigned char *)context, context_size,
                                 context != NULL) != 1)
    return errors_push(L);
  luaL_pushresultsize(&buffer, (size_t)size);
  return 1;
}

/* ---- DANE ---- */

static int done(lua_State *L, bool ok) {
  if (!ok)
    return errors_push(L);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_set_dane(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  const char *name = luaL_checkstring(L, 2);
  ERR_clear_error();
  free(tls->name);
  tls->name = strdup(name);
  return done(L, tls->name && SSL_dane_enable(tls->ssl, name) == 1);
}

/* settlsa(usage, selector, matching type, data) */
static int l_set_tlsa(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  uint8_t field[3];
  for (int i = 0; i < 3; i++) {
    lua_Integer value = luaL_checkinteger(L, i + 2);
    luaL_argcheck(L, value >= 0 && value <= 255, i + 2, "out of range");
    field[i] = (uint8_t)value;
  }
  size_t size;
  const char *data = luaL_checklstring(L, 5, &size);
  ERR_clear_error();
  return done(L, SSL_dane_tlsa_add(tls->ssl, field[0], field[1], field[2],
                                   (const unsigned char *)data, size) == 1);
}

/* ---- errors of callbacks ---- */

/* raised() -> whether an error of a callback ended the handshake, and that */
static int l_raised(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  lua_pushboolean(L, tls->raised);
  if (!tls->raised)
    return 1;
  tls->raised = false;
  lua_xmove(tls->callbacks, L, 1);
  return 2;
}

const luaL_Reg tls_methods[] = {{"setname", l_set_name},
                                {"setselect", l_set_select},
                                {"servername", l_server_name},
                                {"peercertificate", l_peer_certificate},
                                {"peerchain", l_peer_chain},
                                {"verification", l_verification},
                                {"finished", l_finished},
                                {"info", l_info},
                                {"alpn", l_alpn},
                                {"want", l_want},
                                {"export", l_export},
                                {"setdane", l_set_dane},
                                {"settlsa", l_set_tlsa},
                                {"getsession", session_get},
                                {"setsession", session_set},
                                {"raised", l_raised},
                                {NULL, NULL}};

const luaL_Reg tls_metamethods[] = {{"__gc", l_gc}, {NULL, NULL}};
