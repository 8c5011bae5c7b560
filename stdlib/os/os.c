/* os.c: moonlet.os, descriptors and processes; the half in C. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../file/file.h"
#include "io.h"

MOONLET_API int luaopen_moonlet_os_core(lua_State *L);

#define MAX_READ ((lua_Integer)1 << 24) /* bytes at a time */

/* ---- reading and writing descriptors ---- */

/* The stack of a transfer: the descriptor, the size or the data, how much is done. */
enum { FD = 1, WHAT, DONE };

static bool blocks(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags != -1 && !(flags & O_NONBLOCK);
}

static bool was_closed(lua_State *L) {
  const struct greenlet *g = hub_of(L)->current;
  return g && g->wait.revents == IO_CLOSED;
}

/* Memory to read into; what is large is pushed. */
static char *room(lua_State *L, size_t size) {
  return size <= IO_SCRATCH ? io_scratch(L, hub_of(L)) : lua_newuserdatauv(L, size, 0);
}

static int read_step(lua_State *L, bool timed_out) {
  int fd = (int)lua_tointeger(L, FD);
  size_t size = (size_t)lua_tointeger(L, WHAT);
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  if (was_closed(L))
    return file_word(L, "closed");
  if (blocks(fd) && poll(&polled, 1, 0) == 0)
    return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
  char *data = room(L, size);
  ssize_t count;
  do
    count = read(fd, data, size);
  while (count < 0 && errno == EINTR);
  if (count >= 0)
    return lua_pushlstring(L, data, (size_t)count), 1;
  if (errno != EAGAIN)
    return file_failed(L, errno);
  lua_settop(L, WHAT);
  return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
}

static int write_on(lua_State *L, bool timed_out, bool whole) {
  size_t size, count, done = (size_t)lua_tointeger(L, DONE);
  int fd = (int)lua_tointeger(L, FD);
  const char *data = lua_tolstring(L, WHAT, &size);
  if (was_closed(L))
    return file_word(L, "closed");
  do {
    int outcome = file_write_once(fd, blocks(fd), data + done, size - done, &count);
    done += count;
    if (outcome > 0)
      return file_failed(L, outcome);
    if (outcome == FILE_WAIT) {
      lua_pushinteger(L, (lua_Integer)done);
      if (timed_out)
        return file_word(L, "timeout"), lua_pushvalue(L, -3), 3;
      lua_replace(L, DONE);
      return WAIT_AGAIN;
    }
  } while (whole && done < size);
  lua_pushinteger(L, (lua_Integer)done);
  return 1;
}

static int write_step(lua_State *L, bool timed_out) { return write_on(L, timed_out, true); }

static int write_some_step(lua_State *L, bool timed_out) { return write_on(L, timed_out, false); }

/* Tries, then waits for the descriptor at 1 at most so long. */
static int transfer(lua_State *L, int events, double limit, const struct wait_kind *kind) {
  struct hub *hub = hub_of(L);
  if (hub->current)
    hub->current->wait.revents = 0;
  int results = kind->step(L, false);
  if (results != WAIT_AGAIN || limit <= 0)
    return results != WAIT_AGAIN ? results : kind->step(L, true);
  struct greenlet *g = hub_parking(hub, L);
  if (!g)
    g = hub_pinning(hub, L);
  struct link *ring = io_ring(L, hub, (int)lua_tointeger(L, FD));
  g->wait.events = (short)events;
  g->wait.revents = 0;
  return wait_in(L, ring, limit, kind);
}

static void push_fd(lua_State *L) {
  lua_pushinteger(L, io_checkfd(L, FD));
  lua_replace(L, FD);
}

/***
 * os.read(fd, n [, timeout]), os.nb_read(fd, n [, timeout]): reads what there is, at most n bytes,
 * and waits only if there is nothing.
 * @param fd any  a descriptor or an object with getfd, whose buffer is not looked at
 * @param n integer
 * @param timeout? number|Timeout  seconds
 * @return string? # "" at the end
 * @return string? # "timeout", "closed" or another message
 * @return integer? # errno
 * Source: gevent.os.read, read(2).
 */
static int l_read(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "os.read", .step = read_step, .external = true, .enter = io_enter, .leave = io_leave};
  push_fd(L);
  lua_Integer size = luaL_checkinteger(L, WHAT);
  luaL_argcheck(L, size >= 0, WHAT, "negative size");
  double limit = wait_limit(L, 3);
  lua_settop(L, 1);
  lua_pushinteger(L, size < MAX_READ ? size : MAX_READ);
  return transfer(L, EV_READ, limit, &kind);
}

static int do_write(lua_State *L, const struct wait_kind *kind) {
  push_fd(L);
  luaL_checkstring(L, WHAT);
  double limit = wait_limit(L, 3);
  lua_settop(L, 2);
  lua_pushinteger(L, 0);
  return transfer(L, EV_WRITE, limit, kind);
}

/***
 * os.write(fd, data [, timeout]): writes all of it.
 * @param fd any  a descriptor or an object with getfd
 * @param data string
 * @param timeout? number|Timeout  seconds
 * @return integer? # the number of bytes
 * @return string? # "timeout", "closed" or another message
 * @return integer? # errno; after "timeout" how many bytes were written
 * Source: write(2).
 */
static int l_write(lua_State *L) {
  static const struct wait_kind kind = {"os.write", write_step, .external = true, .enter = io_enter,
                                        .leave = io_leave};
  return do_write(L, &kind);
}

/***
 * os.nb_write(fd, data [, timeout]): writes as much as goes out at once, and waits only if nothing
 * does.
 * @param fd any
 * @param data string
 * @param timeout? number|Timeout  seconds
 * @return integer? # the number of bytes written
 * @return string? # "timeout", "closed" or another message
 * @return integer? # errno
 * Source: gevent.os.nb_write.
 */
static int l_nb_write(lua_State *L) {
  static const struct wait_kind kind = {"os.nb_write", write_some_step, .external = true,
                                        .enter = io_enter, .leave = io_leave};
  return do_write(L, &kind);
}

/***
 * os.close(fd): closes a descriptor; whoever waits for it gets nil, "closed".
 * @param fd integer
 * @return boolean? # true, or nil
 * @return string? # a message
 * @return integer? # errno
 */
static int l_close(lua_State *L) {
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "not a descriptor");
  io_disown(hub_of(L), (int)fd);
  if (close((int)fd) != 0)
    return file_failed(L, errno);
  lua_pushboolean(L, 1);
  return 1;
}

/***
 * os.pipe(): a pipe, whose ends are non-blocking and closed in programs that are run.
 * @return integer? # the descriptor to read from, or nil
 * @return integer|string # the one to write to, or a message
 * @return integer? # errno
 */
static int l_pipe(lua_State *L) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    return file_failed(L, errno);
  lua_pushinteger(L, ends[0]);
  lua_pushinteger(L, ends[1]);
  return 2;
}

/* standard(fd): a file over a descriptor of the process's own, which it never closes; or nil. */
static int l_standard(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  if (fcntl(fd, F_GETFD) == -1)
    return file_failed(L, errno);
  file_new(L, fd, false)->standard = true;
  return 1;
}

/* ---- processes ---- */

/***
 * os.getpid(): this process's id.
 * @return integer
 */
static int l_getpid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

int os_check_signal(lua_State *L, int arg) {
  if (lua_type(L, arg) == LUA_TNUMBER) {
    lua_Integer number = luaL_checkinteger(L, arg);
    luaL_argcheck(L, number >= 0 && number < NSIG, arg, "not a signal");
    return (int)number;
  }
  const char *name = luaL_checkstring(L, arg);
  const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
  for (int number = 1; number < NSIG; number++) {
    const char *known = sigabbrev_np(number);
    if (known && strcmp(known, bare) == 0)
      return number;
  }
  return luaL_argerror(L, arg, lua_pushfstring(L, "not a signal: '%s'", name));
}

/***
 * os.kill(pid, signal): sends a signal to a process, or for negative numbers to a group.
 * @param pid integer
 * @param signal integer|string  such as "SIGTERM"; 0 only asks whether it could be sent
 * @return boolean? # true, or nil
 * @return string? # a message
 * @return integer? # errno
 */
static int l_kill(lua_State *L) {
  lua_Integer pid = luaL_checkinteger(L, 1);
  int signum = os_check_signal(L, 2);
  luaL_argcheck(L, pid >= INT_MIN && pid <= INT_MAX, 1, "not a process");
  if (kill((pid_t)pid, signum) != 0)
    return file_failed(L, errno);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- the module ---- */

static const luaL_Reg functions[] = {{"read", l_read},
                                     {"nb_read", l_read},
                                     {"write", l_write},
                                     {"nb_write", l_nb_write},
                                     {"close", l_close},
                                     {"pipe", l_pipe},
                                     {"open", os_open},
                                     {"fork", os_fork},
                                     {"waitpid", os_waitpid},
                                     {"getpid", l_getpid},
                                     {"kill", l_kill},
                                     {"standard", l_standard},
                                     {NULL, NULL}};

static const struct {
  const char *name;
  int value;
} constants[] = {{"WNOHANG", WNOHANG}, {"WUNTRACED", WUNTRACED}};

int luaopen_moonlet_os_core(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  class_push(L, &file_kind);
  lua_setfield(L, -2, "File");
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
    lua_pushinteger(L, constants[i].value);
    lua_setfield(L, -2, constants[i].name);
  }
  return 1;
}
