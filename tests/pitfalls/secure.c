/*
 * secure.c: a Lua module of a kind that knows nothing of greenlets, and lets OpenSSL wait.
 */
#define _GNU_SOURCE
#include <lauxlib.h>
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

/* error_across(number, seconds): is it, after a wait, the only error in the queue? */
static int l_error_across(lua_State *L) {
  int reason = (int)luaL_checkinteger(L, 1);
  ERR_clear_error();
  if (reason)
    ERR_raise(ERR_LIB_USER, reason);
  usleep((useconds_t)(luaL_checknumber(L, 2) * 1e6));
  unsigned long got = ERR_get_error();
  lua_pushboolean(L, ERR_GET_REASON(got) == reason && !ERR_get_error());
  return 1;
}

/* fail(): what fails is left in the queue. */
static int l_fail(lua_State *L) {
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  lua_pushboolean(L, SSL_CTX_use_certificate_file(context, "/nowhere", SSL_FILETYPE_PEM));
  SSL_CTX_free(context);
  return 1;
}

/* shake(): with somebody who is silent for so long; what OpenSSL says then. */
static int l_shake(lua_State *L) {
  int fds[2];
  double seconds = luaL_checknumber(L, 1);
  struct timeval limit = {.tv_sec = 0, .tv_usec = (suseconds_t)(seconds * 1e6)};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return luaL_fileresult(L, 0, NULL);
  setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL *connection = SSL_new(context);
  SSL_set_fd(connection, fds[0]);
  ERR_clear_error();
  int result = SSL_connect(connection), error = SSL_get_error(connection, result);
  lua_pushstring(L, error == SSL_ERROR_WANT_READ ? "want read"
                    : error == SSL_ERROR_SSL     ? "failure"
                                                 : "other");
  SSL_free(connection);
  SSL_CTX_free(context);
  close(fds[0]);
  close(fds[1]);
  return 1;
}

/* How many bytes malloc has given out. */
static int l_memory(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)mallinfo2().uordblks);
  return 1;
}

/* many(n): asks for a value of the thread so often. */
static int l_many(lua_State *L) {
  for (lua_Integer n = luaL_checkinteger(L, 1); n > 0; n--)
    ERR_clear_error();
  return 0;
}

static const luaL_Reg functions[] = {{"error_across", l_error_across},
                                     {"fail", l_fail},
                                     {"shake", l_shake},
                                     {"memory", l_memory},
                                     {"many", l_many},
                                     {NULL, NULL}};

int luaopen_secure(lua_State *L) __attribute__((visibility("default")));

int luaopen_secure(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
