/* options.c: options of sockets. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "binding.h"

enum type { INTEGER, INTEGER64, TEXT, BYTES, KEY };

/* What is not said here is an int. */
static enum type type_of(int option) {
  switch (option) {
  case ZMQ_MAXMSGSIZE:
  case ZMQ_AFFINITY:
  case ZMQ_VMCI_BUFFER_SIZE:
  case ZMQ_VMCI_BUFFER_MIN_SIZE:
  case ZMQ_VMCI_BUFFER_MAX_SIZE:
    return INTEGER64;
  case ZMQ_LAST_ENDPOINT:
  case ZMQ_SOCKS_PROXY:
  case ZMQ_PLAIN_USERNAME:
  case ZMQ_PLAIN_PASSWORD:
  case ZMQ_ZAP_DOMAIN:
  case ZMQ_BINDTODEVICE:
  case ZMQ_GSSAPI_PRINCIPAL:
  case ZMQ_GSSAPI_SERVICE_PRINCIPAL:
    return TEXT;
  case ZMQ_ROUTING_ID:
  case ZMQ_CONNECT_ROUTING_ID:
  case ZMQ_SUBSCRIBE:
  case ZMQ_UNSUBSCRIBE:
  case ZMQ_XPUB_WELCOME_MSG:
    return BYTES;
  case ZMQ_CURVE_PUBLICKEY:
  case ZMQ_CURVE_SECRETKEY:
  case ZMQ_CURVE_SERVERKEY:
    return KEY;
  default:
    return INTEGER;
  }
}

/* ---- setting ---- */

static int set_integer(lua_State *L, void *zmq, int option) {
  if (lua_isboolean(L, 3)) {
    int on = lua_toboolean(L, 3);
    return zmq_setsockopt(zmq, option, &on, sizeof on);
  }
  lua_Integer given = luaL_checkinteger(L, 3);
  luaL_argcheck(L, given >= INT_MIN && given <= INT_MAX, 3, "out of range");
  int value = (int)given;
  return zmq_setsockopt(zmq, option, &value, sizeof value);
}

static int set(lua_State *L, void *zmq, int option) {
  size_t size = 0;
  switch (type_of(option)) {
  case INTEGER:
    return set_integer(L, zmq, option);
  case INTEGER64: {
    int64_t value = luaL_checkinteger(L, 3);
    return zmq_setsockopt(zmq, option, &value, sizeof value);
  }
  default: {
    const char *value = luaL_optlstring(L, 3, NULL, &size);
    return zmq_setsockopt(zmq, option, value, value ? size : 0);
  }
  }
}

/***
 * ZSocket:setsockopt(option, value): sets an option.
 * @param option integer  zmq.LINGER ...; times of options are in milliseconds, as libzmq has them
 * @param value integer|boolean|string|nil  what the option's kind is; keys of CURVE have 32 bytes,
 *   or 40 in Z85
 * @return true|nil
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_setsockopt.
 */
int socket_setsockopt(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  int option = (int)luaL_checkinteger(L, 2);
  if (set(L, self->zmq, option) != 0)
    return binding_fail(L, errno);
  if (option == ZMQ_ROUTER_MANDATORY)
    self->edge.vague = lua_isboolean(L, 3) ? lua_toboolean(L, 3) : lua_tointeger(L, 3) != 0;
  edge_changed(&self->edge);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- getting ---- */

static int push_integer(lua_State *L, void *zmq, int option, enum type type) {
  int value = 0;
  int64_t long_value = 0;
  size_t size = type == INTEGER ? sizeof value : sizeof long_value;
  int failure = zmq_getsockopt(zmq, option, type == INTEGER ? (void *)&value : &long_value, &size);
  if (failure == 0)
    lua_pushinteger(L, type == INTEGER ? value : long_value);
  return failure;
}

static int push_string(lua_State *L, void *zmq, int option, enum type type) {
  char value[1024];
  size_t size = type == KEY ? 41 : sizeof value;
  int failure = zmq_getsockopt(zmq, option, value, &size);
  if (failure == 0)
    lua_pushlstring(L, value, type == BYTES ? size : strnlen(value, size));
  return failure;
}

/***
 * ZSocket:getsockopt(option): the value of an option.
 * @param option integer  zmq.LAST_ENDPOINT ...
 * @return integer|string|nil # keys of CURVE in Z85
 * @return string # the reason
 * @return integer # the errno
 * Source: zmq_getsockopt.
 */
int socket_getsockopt(lua_State *L) {
  struct socket *self = socket_check_open(L, 1);
  if (!self)
    return 2;
  int option = (int)luaL_checkinteger(L, 2);
  enum type type = type_of(option);
  bool is_integer = type == INTEGER || type == INTEGER64;
  int failure = is_integer ? push_integer(L, self->zmq, option, type)
                           : push_string(L, self->zmq, option, type);
  if (failure)
    return binding_fail(L, errno);
  edge_changed(&self->edge);
  return 1;
}
