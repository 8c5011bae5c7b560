/*
 * callbacks.c: what OpenSSL asks of a server amid a handshake, answered by functions in Lua.
 *
 * A transport is called without a Lua state, so one that may need it has a Lua thread of its own.
 * An error in a function, such as a kill while it waits, ends the handshake; it stays on that
 * thread's stack for who made the handshake to raise it again.
 */
#include <openssl/err.h>
#include <string.h>

#include "tls.h"

enum { SELF = 1 }; /* on the thread's stack; results and errors come after it */

void callbacks_prepare(lua_State *L, int index, struct tls *tls) {
  if (tls->callbacks)
    return;
  index = lua_absindex(L, index);
  lua_State *thread = lua_newthread(L);
  lua_setiuservalue(L, index, UV_THREAD);
  lua_pushvalue(L, index);
  lua_xmove(L, thread, 1);
  tls->callbacks = thread;
}

struct request {
  struct tls *tls;
  int (*body)(lua_State *L, struct request *request); /* leaves one result */
  const unsigned char *data;
  size_t size;
};

static int l_answer(lua_State *L) {
  struct request *request = lua_touserdata(L, 2);
  return request->body(L, request);
}

/* Leaves the result on top of the thread's stack; false: an error, which is kept. */
static bool ask(struct request *request) {
  struct tls *tls = request->tls;
  lua_State *L = tls->callbacks;
  lua_settop(L, SELF);
  lua_pushcfunction(L, l_answer);
  lua_pushvalue(L, SELF);
  lua_pushlightuserdata(L, request);
  tls->asking = true;
  tls->raised = lua_pcall(L, 2, 1, 0) != LUA_OK;
  tls->asking = false;
  ERR_clear_error();
  return !tls->raised;
}

const char *callbacks_error(const struct tls *tls) {
  lua_State *L = tls->callbacks;
  return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1);
}

/* ---- ALPN ---- */

static int answer_alpn(lua_State *L, struct request *request) {
  lua_getiuservalue(L, SELF, UV_CONTEXT);
  lua_getiuservalue(L, -1, UV_ALPN);
  lua_pushlstring(L, (const char *)request->data, request->size);
  lua_call(L, 1, 1);
  return 1;
}

int callbacks_alpn(SSL *ssl, const unsigned char **out, unsigned char *size,
                   const unsigned char *offered, unsigned offered_size, void *arg) {
  (void)arg;
  struct tls *tls = tls_of(ssl);
  const unsigned char *list = tls->context->alpn;
  size_t list_size = tls->context->alpn_size;
  if (!list) {
    struct request request = {
        .tls = tls, .body = answer_alpn, .data = offered, .size = offered_size};
    if (!ask(&request))
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    list = (const unsigned char *)lua_tolstring(tls->callbacks, -1, &list_size);
  }
  if (!list || SSL_select_next_proto((unsigned char **)out, size, list, (unsigned)list_size,
                                     offered, offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  return SSL_TLSEXT_ERR_OK;
}

/* ---- the server's name ---- */

static int answer_name(lua_State *L, struct request *request) {
  lua_getiuservalue(L, SELF, UV_SELECT);
  if (request->data)
    lua_pushstring(L, (const char *)request->data);
  else
    lua_pushnil(L);
  lua_call(L, 1, 1);
  if (lua_isnil(L, -1))
    return 1;
  struct context *context = context_check(L, -1);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, SELF, UV_CONTEXT);
  request->tls->context = context;
  return 1;
}

/* The certificate, whom to trust and what to verify are the other context's from now on. */
static void switch_context(struct tls *tls) {
  SSL_CTX *ssl = tls->context->ssl;
  SSL_set_SSL_CTX(tls->ssl, ssl);
  SSL_set_verify(tls->ssl, SSL_CTX_get_verify_mode(ssl), verify_callback);
  SSL_set_verify_depth(tls->ssl, SSL_CTX_get_verify_depth(ssl));
  SSL_set_options(tls->ssl, SSL_CTX_get_options(ssl));
}

int callbacks_server_name(SSL *ssl, int *alert, void *arg) {
  (void)alert;
  (void)arg;
  struct tls *tls = tls_of(ssl);
  if (!tls->selects)
    return SSL_TLSEXT_ERR_NOACK;
  struct request request = {
      .tls = tls,
      .body = answer_name,
      .data = (const unsigned char *)SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)};
  if (!ask(&request))
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  if (lua_isnil(tls->callbacks, -1))
    return tls->strict ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
  switch_context(tls);
  return SSL_TLSEXT_ERR_OK;
}
