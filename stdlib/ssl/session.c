/*
 * session.c: sessions, which let a client connect again with half the work.
 *
 * Who resumes a session verifies nothing anew.  So one is only good for the context and
 * the name that it was made with.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

struct session {
  SSL_SESSION *ssl;
  SSL_CTX *context;
  char *name; /* of the server; NULL: unknown */
};

/* OpenSSL's callback; with TLS 1.3 a session comes some time after the handshake. */
int session_remember(SSL *ssl, SSL_SESSION *session) {
  struct tls *tls = tls_of(ssl);
  SSL_SESSION_free(tls->session);
  tls->session = session;
  return 1; /* the reference is taken over */
}

int session_get(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  if (!tls->session && SSL_session_reused(tls->ssl)) /* the server offered none in its place */
    tls->session = SSL_get1_session(tls->ssl);
  if (!tls->session)
    return luaL_pushfail(L), 1;
  struct session *session = lua_newuserdatauv(L, sizeof *session, 0);
  *session = (struct session){0};
  luaL_setmetatable(L, SESSION_TYPE);
  if (tls->name && !(session->name = strdup(tls->name)))
    return luaL_error(L, "not enough memory");
  SSL_SESSION_up_ref(tls->session);
  session->ssl = tls->session;
  SSL_CTX_up_ref(tls->context->ssl);
  session->context = tls->context->ssl;
  return 1;
}

static bool same_name(const char *a, const char *b) {
  return a == b || (a && b && strcmp(a, b) == 0);
}

int session_set(lua_State *L) {
  struct tls *tls = tls_check(L, 1);
  const struct session *session = luaL_checkudata(L, 2, SESSION_TYPE);
  if (session->context != tls->context->ssl || !same_name(session->name, tls->name)) {
    lua_pushnil(L);
    lua_pushfstring(L, "the session is of another context, or with '%s' instead of '%s'",
                    session->name ? session->name : "", tls->name ? tls->name : "");
    return 2;
  }
  ERR_clear_error();
  if (SSL_set_session(tls->ssl, session->ssl) != 1)
    return errors_push(L);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_gc(lua_State *L) {
  struct session *session = luaL_checkudata(L, 1, SESSION_TYPE);
  SSL_SESSION_free(session->ssl);
  SSL_CTX_free(session->context);
  free(session->name);
  *session = (struct session){0};
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct session *session = luaL_checkudata(L, 1, SESSION_TYPE);
  lua_pushfstring(L, "SSL session: %p (%s)", session, session->name ? session->name : "no name");
  return 1;
}

const luaL_Reg session_metamethods[] = {{"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
