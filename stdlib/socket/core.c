/*
 * core.c: moonlet.socket.core, the C half of moonlet.socket.
 */
#define _GNU_SOURCE
#include <time.h>

#include "stream.h"

/* ---- waiting for any descriptor ---- */

static int wait_step(lua_State *L, bool timed_out) {
  int revents = timed_out ? 0 : hub_of(L)->current->wait.revents;
  if (!revents)
    return sock_fail_with(L, "timeout");
  if (revents == IO_CLOSED)
    return sock_fail_with(L, "closed");
  lua_pushboolean(L, 1);
  return 1;
}

static int wait_descriptor(lua_State *L, int events, const struct wait_kind *kind) {
  struct hub *hub = hub_of(L);
  int fd = io_checkfd(L, 1);
  double limit = wait_limit(L, 2);
  if (!hub->current)
    return luaL_error(L, "cannot block here: called by the hub itself");
  const struct stream *stream = events & EV_READ ? class_test(L, 1, &stream_kind) : NULL;
  hub->current->wait.events = (short)events;
  hub->current->wait.revents =
      (short)(stream && stream_dirty(stream) ? EV_READ : io_poll(fd, events));
  return hub->current->wait.revents ? wait_step(L, false)
                                    : wait_in(L, io_ring(L, hub, fd), limit, kind);
}

/***
 * socket.wait_read(fd [, timeout]): waits until a descriptor can be read.
 * A socket that is dirty can be.
 * @param fd any  a descriptor, a Lua file, or an object with getfd
 * @param timeout? number|Timeout  seconds
 * @return true|nil
 * @return string # "timeout", or "closed" by another greenlet
 * Source: gevent.socket.wait_read.
 * Differs: lets the others have a turn first | returns at once if it can be read already
 */
static int l_wait_read(lua_State *L) {
  static const struct wait_kind kind = {"wait_read", wait_step, .external = true, .enter = io_enter,
                                        .leave = io_leave};
  return wait_descriptor(L, EV_READ, &kind);
}

/***
 * socket.wait_write(fd [, timeout]): waits until a descriptor can be written.
 * @param fd any  a descriptor, a Lua file, or an object with getfd
 * @param timeout? number|Timeout  seconds
 * @return true|nil
 * @return string # "timeout", or "closed" by another greenlet
 * Source: gevent.socket.wait_write.
 */
static int l_wait_write(lua_State *L) {
  static const struct wait_kind kind = {"wait_write", wait_step, .external = true,
                                        .enter = io_enter, .leave = io_leave};
  return wait_descriptor(L, EV_WRITE, &kind);
}

/* ---- time ---- */

/***
 * socket.gettime(): the time of day.
 * @return number # seconds since 1970, UTC
 * Source: LuaSocket.
 */
static int l_gettime(lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
  return 1;
}

/* ---- the module ---- */

static const luaL_Reg functions[] = {{"tcp", socket_tcp},
                                     {"tcp4", socket_tcp4},
                                     {"tcp6", socket_tcp6},
                                     {"udp", socket_udp},
                                     {"udp4", socket_udp4},
                                     {"udp6", socket_udp6},
                                     {"unix_stream", socket_unix_stream},
                                     {"unix_dgram", socket_unix_dgram},
                                     {"socketpair", socket_socketpair},
                                     {"upgrade", socket_upgrade},
                                     {"wait_read", l_wait_read},
                                     {"wait_write", l_wait_write},
                                     {"gettime", l_gettime},
                                     {NULL, NULL}};

MOONLET_API int luaopen_moonlet_socket_core(lua_State *L) {
  static const struct class_kind *const kinds[] = {
      &sock_kind, &stream_kind, &tcp_kind, &udp_kind, &unix_kind, &unix_dgram_kind, &secure_kind};
  luaL_newlib(L, functions);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    class_push(L, kinds[i]);
    lua_setfield(L, -2, kinds[i]->name);
  }
  return 1;
}
