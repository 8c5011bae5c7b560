/*
 * tls.h: what the files of moonlet.ssl.core share.
 *
 * The module works on OpenSSL and Lua alone: it knows no hub and never waits.  ssl.lua makes
 * LuaSec's API of it, the streams of moonlet.socket do the waiting.
 */
#ifndef MOONLET_TLS_H
#define MOONLET_TLS_H

#include <lauxlib.h>
#include <openssl/ssl.h>
#include <stdbool.h>

#include "../socket/transport.h"

/* Names of metatables. */
#define CONTEXT_TYPE "moonlet.ssl.Context"
#define CERTIFICATE_TYPE "moonlet.ssl.Certificate"
#define SESSION_TYPE "moonlet.ssl.Session"
#define TLS_TYPE "moonlet.ssl.transport"

/* ---- contexts (context.c) ---- */

struct context {
  SSL_CTX *ssl;
  bool server;
  bool continues;       /* the handshake goes on when verification fails: "lsec_continue" */
  bool ignores_purpose; /* "lsec_ignore_purpose" */
  bool needs_name;      /* a client must know whom it expects */
  bool dane;
  unsigned char *alpn; /* a server's protocols in the form of the wire, by preference; or NULL */
  unsigned alpn_size;
};

enum { UV_ALPN = 1, CONTEXT_VALUES = 1 }; /* user values: the function that selects protocols */

struct context *context_check(lua_State *L, int arg);
extern const luaL_Reg context_functions[], context_settings[], context_metamethods[];

/* ---- transports (transport.c, connection.c) ---- */

struct tls {
  struct transport transport;
  SSL *ssl;
  const struct context *context;
  lua_State *callbacks; /* runs what a context or a server has in Lua; NULL: nothing */
  char *held;           /* what the peer's slowness keeps from being written, see transport.c */
  size_t held_size;
  char *message; /* of the last failure */
  char *problem; /* what is wrong with the peer's certificate */
  char *name;    /* the peer's name, as the user gave it */
  SSL_SESSION *session;
  struct verify_errors *errors;
  bool failed;  /* for good */
  bool ended;   /* the kernel has told the end */
  bool selects; /* a server chooses its context by the name the client asks for */
  bool strict;  /* who asks for none of them is refused */
  bool asking;  /* a function of the context or the server runs */
  bool raised;  /* an error of a callback lies on its stack */
};

enum { UV_CONTEXT = 1, UV_THREAD, UV_SELECT, TLS_VALUES = 3 }; /* user values */

struct tls *tls_check(lua_State *L, int arg);
struct tls *tls_of(const SSL *ssl);
extern const struct transport_kind tls_kind;
extern const luaL_Reg tls_methods[], tls_metamethods[];

/* core.transport(context) -> transport */
int tls_new(lua_State *L);

/* An SSL object's bytes go through this; made once. */
BIO *tls_new_bio(struct tls *tls);

/* ---- callbacks in Lua (callbacks.c) ---- */

/* Prepares the transport at `index` for them. */
void callbacks_prepare(lua_State *L, int index, struct tls *tls);
/* The error that one has raised, as text. */
const char *callbacks_error(const struct tls *tls);
int callbacks_alpn(SSL *ssl, const unsigned char **out, unsigned char *size,
                   const unsigned char *offered, unsigned offered_size, void *arg);
int callbacks_server_name(SSL *ssl, int *alert, void *arg);

/* ---- verification (verify.c) ---- */

/* What was wrong with a chain, in the order in which it was found. */
struct verify_errors {
  int count;
  struct {
    int depth, code;
  } list[16];
};

int verify_callback(int ok, X509_STORE_CTX *store);
void verify_free(struct tls *tls);

/* ---- certificates and sessions (certificate.c, extensions.c, session.c) ---- */

/* Pushes the certificate, whose reference it takes over; nil for NULL. */
void certificate_push(lua_State *L, X509 *x509);
void extensions_push(lua_State *L, X509 *x509, bool utf8);

/* Pushes a string of a certificate, as it is or in UTF-8. */
void certificate_push_string(lua_State *L, const ASN1_STRING *string, bool utf8);
extern const luaL_Reg certificate_functions[], certificate_methods[];

int session_remember(SSL *ssl, SSL_SESSION *session);
int session_get(lua_State *L);
int session_set(lua_State *L);
extern const luaL_Reg session_metamethods[];

/* ---- the rest ---- */

/* Pushes ssl.config (config.c). */
void config_push(lua_State *L);
/* An option's bits; whether there is one of that name. */
bool config_option(const char *name, uint64_t *bits);

/* What OpenSSL's queue says went wrong, emptied (errors.c); valid until the next call. */
const char *errors_take(char *buffer, size_t size);

/* Pushes nil and that message. */
int errors_push(lua_State *L);

#endif
