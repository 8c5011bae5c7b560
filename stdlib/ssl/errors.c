/* errors.c: OpenSSL's queue of errors as one message. */
#define _GNU_SOURCE
#include <openssl/err.h>
#include <string.h>

#include "tls.h"

/* The oldest is where it went wrong; the others tell through which layers it came. */
const char *errors_take(char *buffer, size_t size) {
  unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0)
    return "unknown error";
  if (ERR_SYSTEM_ERROR(code))
    return strerror_r(ERR_GET_REASON(code), buffer, size);
  if (ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER)
    return "not in a known format";
  const char *reason = ERR_reason_error_string(code);
  if (reason)
    return reason;
  ERR_error_string_n(code, buffer, size);
  return buffer;
}

int errors_push(lua_State *L) {
  char buffer[256];
  lua_pushnil(L);
  lua_pushstring(L, errors_take(buffer, sizeof buffer));
  return 2;
}
