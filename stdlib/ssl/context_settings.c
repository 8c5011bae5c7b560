/* context_settings.c: what a context is told; each returns true, or nil and what is wrong. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include "tls.h"

static int done(lua_State *L, bool ok) {
  if (!ok)
    return errors_push(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* The context to be set, with OpenSSL's queue empty, so that what is found there comes of it. */
static struct context *begin(lua_State *L) {
  ERR_clear_error();
  return context_check(L, 1);
}

/* ---- keys and certificates ---- */

struct password {
  const char *text;
  size_t length;
  bool asked;
};

static int give_password(char *buffer, int size, int writing, void *arg) {
  (void)writing;
  struct password *password = arg;
  password->asked = true;
  if (!password->text || password->length > (size_t)size)
    return -1;
  memcpy(buffer, password->text, password->length);
  return (int)password->length;
}

/* setkey(context, file [, password]) -> true | nil, message, whether a password was asked for */
static int l_set_key(lua_State *L) {
  struct context *context = begin(L);
  const char *file = luaL_checkstring(L, 2);
  struct password password = {0};
  password.text = lua_tolstring(L, 3, &password.length);
  SSL_CTX_set_default_passwd_cb(context->ssl, give_password);
  SSL_CTX_set_default_passwd_cb_userdata(context->ssl, &password);
  int ok = SSL_CTX_use_PrivateKey_file(context->ssl, file, SSL_FILETYPE_PEM);
  SSL_CTX_set_default_passwd_cb(context->ssl, NULL);
  SSL_CTX_set_default_passwd_cb_userdata(context->ssl, NULL);
  if (ok == 1)
    return done(L, true);
  errors_push(L);
  lua_pushboolean(L, password.asked);
  return 3;
}

static int l_set_certificate(lua_State *L) {
  struct context *context = begin(L);
  return done(L, SSL_CTX_use_certificate_chain_file(context->ssl, luaL_checkstring(L, 2)) == 1);
}

static int l_check_key(lua_State *L) {
  return done(L, SSL_CTX_check_private_key(begin(L)->ssl) == 1);
}

/* ---- whom to trust ---- */

/* setlocations(context, cafile | nil, capath | nil) */
static int l_set_locations(lua_State *L) {
  struct context *context = begin(L);
  const char *file = luaL_optstring(L, 2, NULL);
  bool ok = SSL_CTX_load_verify_locations(context->ssl, file, luaL_optstring(L, 3, NULL)) == 1;
  if (ok && file && context->server) {
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (names)
      SSL_CTX_set_client_CA_list(context->ssl, names);
  }
  return done(L, ok);
}

static const char store_key; /* in the registry */

static int l_free_store(lua_State *L) {
  X509_STORE **store = lua_touserdata(L, 1);
  X509_STORE_free(*store);
  *store = NULL;
  return 0;
}

/* setsystem(context): trusts whom the system trusts.  To read all that takes long enough to do it
   only once. */
static int l_set_system(lua_State *L) {
  struct context *context = begin(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &store_key) == LUA_TNIL) {
    X509_STORE **store = lua_newuserdatauv(L, sizeof *store, 0);
    *store = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_free_store);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    *store = X509_STORE_new();
    if (!*store || X509_STORE_set_default_paths(*store) != 1)
      return errors_push(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &store_key);
  }
  SSL_CTX_set1_cert_store(context->ssl, *(X509_STORE **)lua_touserdata(L, -1));
  return done(L, true);
}

static int invalid(lua_State *L, const char *what, const char *name) {
  lua_pushnil(L);
  lua_pushfstring(L, "invalid %s (%s)", what, name);
  return 2;
}

/* setverify(context, mode ...) -> whether it verifies | nil, message */
static int l_set_verify(lua_State *L) {
  struct context *context = begin(L);
  int mode = SSL_VERIFY_NONE;
  for (int i = 2; i <= lua_gettop(L); i++) {
    const char *name = luaL_checkstring(L, i);
    if (strcmp(name, "peer") == 0)
      mode |= SSL_VERIFY_PEER;
    else if (strcmp(name, "fail_if_no_peer_cert") == 0)
      mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    else if (strcmp(name, "client_once") == 0)
      mode |= SSL_VERIFY_CLIENT_ONCE;
    else if (strcmp(name, "none") != 0)
      return invalid(L, "verify option", name);
  }
  SSL_CTX_set_verify(context->ssl, mode, verify_callback);
  lua_pushboolean(L, mode != SSL_VERIFY_NONE);
  return 1;
}

/* setverifyext(context, option ...) */
static int l_set_verify_ext(lua_State *L) {
  struct context *context = begin(L);
  X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context->ssl);
  for (int i = 2; i <= lua_gettop(L); i++) {
    const char *name = luaL_checkstring(L, i);
    if (strcmp(name, "lsec_continue") == 0)
      context->continues = true;
    else if (strcmp(name, "lsec_ignore_purpose") == 0)
      context->ignores_purpose = true;
    else if (strcmp(name, "crl_check") == 0)
      X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK);
    else if (strcmp(name, "crl_check_chain") == 0)
      X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    else
      return invalid(L, "verifyext option", name);
  }
  return done(L, true);
}

/* neednames(context): its clients must know whom they expect */
static int l_need_names(lua_State *L) {
  begin(L)->needs_name = true;
  return done(L, true);
}

static int l_set_depth(lua_State *L) {
  SSL_CTX_set_verify_depth(begin(L)->ssl, (int)luaL_checkinteger(L, 2));
  return done(L, true);
}

/* ---- protocol details ---- */

/* setoptions(context, option ...) */
static int l_set_options(lua_State *L) {
  struct context *context = begin(L);
  for (int i = 2; i <= lua_gettop(L); i++) {
    uint64_t bits;
    if (!config_option(luaL_checkstring(L, i), &bits))
      return invalid(L, "option", lua_tostring(L, i));
    SSL_CTX_set_options(context->ssl, bits);
  }
  return done(L, true);
}

static int l_set_ciphers(lua_State *L) {
  struct context *context = begin(L);
  return done(L, SSL_CTX_set_cipher_list(context->ssl, luaL_checkstring(L, 2)) == 1);
}

static int l_set_ciphersuites(lua_State *L) {
  struct context *context = begin(L);
  return done(L, SSL_CTX_set_ciphersuites(context->ssl, luaL_checkstring(L, 2)) == 1);
}

static int l_set_groups(lua_State *L) {
  struct context *context = begin(L);
  if (SSL_CTX_set1_groups_list(context->ssl, luaL_checkstring(L, 2)) == 1)
    return done(L, true);
  lua_pushnil(L);
  lua_pushliteral(L, "unknown curve");
  return 2;
}

/* setdhparam(context, pem) */
static int l_set_dhparam(lua_State *L) {
  struct context *context = begin(L);
  size_t size;
  const char *pem = luaL_checklstring(L, 2, &size);
  BIO *bio = BIO_new_mem_buf(pem, (int)size);
  EVP_PKEY *params = bio ? PEM_read_bio_Parameters(bio, NULL) : NULL;
  BIO_free(bio);
  bool ok = params && SSL_CTX_set0_tmp_dh_pkey(context->ssl, params) == 1;
  if (ok)
    SSL_CTX_set_dh_auto(context->ssl, 0);
  else
    EVP_PKEY_free(params);
  return done(L, ok);
}

/* A client's offer, or a server's list by preference; `wire` is in the form of the wire. */
static bool set_alpn_list(struct context *context, const char *wire, size_t size) {
  if (!context->server)
    return SSL_CTX_set_alpn_protos(context->ssl, (const unsigned char *)wire, (unsigned)size) == 0;
  OPENSSL_free(context->alpn);
  context->alpn = OPENSSL_memdup(wire, size);
  context->alpn_size = (unsigned)size;
  SSL_CTX_set_alpn_select_cb(context->ssl, callbacks_alpn, NULL);
  return context->alpn != NULL;
}

/* setalpn(context, wire | function): the function, for servers, maps an offer to such a list. */
static int l_set_alpn(lua_State *L) {
  struct context *context = begin(L);
  if (lua_isstring(L, 2)) {
    size_t size;
    const char *wire = lua_tolstring(L, 2, &size);
    return done(L, set_alpn_list(context, wire, size));
  }
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  lua_setiuservalue(L, 1, UV_ALPN);
  SSL_CTX_set_alpn_select_cb(context->ssl, callbacks_alpn, NULL);
  return done(L, true);
}

/* setdane(context, flag ...) */
static int l_set_dane(lua_State *L) {
  struct context *context = begin(L);
  context->dane = SSL_CTX_dane_enable(context->ssl) == 1;
  for (int i = 2; i <= lua_gettop(L); i++) {
    const char *name = luaL_checkstring(L, i);
    if (strcmp(name, "no_ee_namechecks") != 0)
      return invalid(L, "dane option", name);
    SSL_CTX_dane_set_flags(context->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
  }
  return done(L, context->dane);
}

const luaL_Reg context_settings[] = {{"setkey", l_set_key},
                                     {"setcertificate", l_set_certificate},
                                     {"checkkey", l_check_key},
                                     {"setlocations", l_set_locations},
                                     {"setsystem", l_set_system},
                                     {"setverify", l_set_verify},
                                     {"setverifyext", l_set_verify_ext},
                                     {"neednames", l_need_names},
                                     {"setdepth", l_set_depth},
                                     {"setoptions", l_set_options},
                                     {"setciphers", l_set_ciphers},
                                     {"setciphersuites", l_set_ciphersuites},
                                     {"setgroups", l_set_groups},
                                     {"setdhparam", l_set_dhparam},
                                     {"setalpn", l_set_alpn},
                                     {"setdane", l_set_dane},
                                     {NULL, NULL}};
