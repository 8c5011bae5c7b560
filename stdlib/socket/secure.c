/*
 * secure.c: streams under a transport (transport.h), which moonlet.ssl builds on.
 *
 * A secure stream takes the descriptor of a connected one over.
 */
#include "stream.h"

static struct stream *check(lua_State *L) { return class_check(L, 1, &secure_kind); }

/* The transport at `arg`. */
static struct transport *check_transport(lua_State *L, int arg) {
  bool marked = lua_isuserdata(L, arg) && luaL_getmetafield(L, arg, TRANSPORT_MARK) != LUA_TNIL;
  luaL_argexpected(L, marked, arg, "transport");
  lua_pop(L, 1);
  return lua_touserdata(L, arg);
}

/*
 * upgrade(socket, transport [, class]), for moonlet.ssl: puts a connected stream under a
 * transport.  Its descriptor goes to the object that is returned, which is of the class
 * Secure or the one given, below it; the socket is left without one.  Returns nil and
 * "closed", or "unread data": what came before the handshake may be forged (CVE-2023-40217).
 */
int socket_upgrade(lua_State *L) {
  struct stream *from = stream_check(L);
  struct transport *transport = check_transport(L, 2);
  lua_settop(L, 3);
  luaL_argcheck(L, from->sock.role == SOCK_CLIENT, 1, "socket is not connected");
  luaL_argcheck(L, !from->transport, 1, "under a transport already");
  if (from->sock.fd < 0)
    return sock_fail_with(L, "closed");
  if (io_reading(from->sock.ring) || io_writing(from->sock.ring))
    return luaL_error(L, "socket already used by another greenlet");
  if (from->end > from->start)
    return sock_fail_with(L, "unread data");
  struct stream *self = class_new(L, &secure_kind);
  if (class_is_class(L, 3)) {
    lua_pushvalue(L, 3);
    lua_setmetatable(L, -2);
  }
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, UV_TRANSPORT);
  self->sock.block = from->sock.block;
  self->sock.total = from->sock.total;
  self->sock.role = SOCK_CLIENT;
  int family = from->sock.family, fd = sock_release(from->sock.hub, &from->sock);
  self->transport = transport;
  transport->fd = fd;
  sock_adopt(L, &self->sock, fd, family);
  return 1;
}

/* ---- handshake ---- */

static int handshake_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, 1);
  if (sock_gone(&self->sock))
    return sock_fail_with(L, "closed");
  int word = self->transport->kind->handshake(self->transport);
  if (word == 1) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (word != TRANSPORT_WANT_READ && word != TRANSPORT_WANT_WRITE)
    return stream_fail(L, self, word);
  if (timed_out)
    return sock_fail_with(L, stream_timeout(self, word));
  return sock_again(&self->sock, stream_events(word), self->sock.read_due);
}

/***
 * Secure:handshake(): agrees with the peer on keys, and on who it is.
 * May be called again after a timeout.
 * @return true|nil
 * @return string # "timeout", "closed" or what is wrong
 * Source: LuaSec's dohandshake.
 */
static int l_handshake(lua_State *L) {
  static const struct wait_kind kind = {"ssl:handshake", handshake_step, SOCK_READING};
  struct stream *self = check(L);
  luaL_argcheck(L, self->transport, 1, "no transport");
  lua_settop(L, 1);
  return sock_read(L, &self->sock, &kind);
}

/***
 * Secure:setfd(fd): not for a connection under TLS, whose keys are of no use elsewhere.
 * @param fd integer
 * @raise an error
 */
static int l_setfd(lua_State *L) { return luaL_argerror(L, 1, "under TLS"); }

static void get_transport(lua_State *L, void *object) {
  (void)object;
  lua_getiuservalue(L, 1, UV_TRANSPORT);
}

static const luaL_Reg methods[] = {{"handshake", l_handshake}, {"setfd", l_setfd}, {NULL, NULL}};

static const struct class_field fields[] = {{"transport", get_transport, NULL}, {NULL, NULL, NULL}};

/***
 * @class moonlet.socket.Secure: Stream
 * A stream under a transport, TLS that is.
 * @field transport userdata
 */
const struct class_kind secure_kind = {.name = "Secure",
                                       .base = &stream_kind,
                                       .size = sizeof(struct stream),
                                       .values = 1,
                                       .init = sock_init,
                                       .methods = methods,
                                       .fields = fields};
