/*
 * open.c: opening a File by its name, in a thread.
 *
 * With O_NONBLOCK no thread ever waits for the other end of a FIFO: one to be read opens at once,
 * and its first read waits; one to be written is tried again until somebody reads it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/os.h"
#include "file.h"

#define RETRY_INTERVAL 0.02 /* seconds; the kernel does not tell when a FIFO gets a reader */

struct opening {
  struct task task;
  int flags;
  int fd; /* -1: not open, or given away */
  int failure;
  bool fifo;
  char path[];
};

/* ---- in a thread ---- */

static void perform(struct task *task) {
  struct opening *opening = container_of(task, struct opening, task);
  struct stat status;
  opening->fd = open(opening->path, opening->flags | O_CLOEXEC | O_NONBLOCK, 0666);
  if (opening->fd < 0) {
    opening->failure = errno;
    opening->fifo = stat(opening->path, &status) == 0 && S_ISFIFO(status.st_mode);
  } else {
    opening->fifo = fstat(opening->fd, &status) == 0 && S_ISFIFO(status.st_mode);
  }
}

static void dispose(struct task *task) {
  struct opening *opening = container_of(task, struct opening, task);
  if (opening->fd >= 0)
    close(opening->fd);
  free(opening);
}

/* ---- on the greenlet's side ---- */

/* What the greenlet's side holds, given up in any case. */
struct handle {
  struct opening *opening;
};

static int l_abandon(lua_State *L) {
  struct handle *handle = lua_touserdata(L, 1);
  if (handle->opening)
    task_abandon(&handle->opening->task);
  handle->opening = NULL;
  return 0;
}

static struct handle *push_handle(lua_State *L) {
  struct handle *handle = lua_newuserdatauv(L, sizeof *handle, 0);
  handle->opening = NULL;
  if (luaL_newmetatable(L, "moonlet.opening")) {
    lua_pushcfunction(L, l_abandon);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return handle;
}

/* The stack: the path, the flags, the handle. */
enum { PATH = 1, FLAGS, HANDLE };

static int failed(lua_State *L, int failure) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", lua_tostring(L, PATH), strerror(failure));
  lua_pushinteger(L, failure);
  return 3;
}

static int begin(lua_State *L);

static int retry_step(lua_State *L, bool timed_out) {
  (void)timed_out;
  return begin(L);
}

static int open_step(lua_State *L, bool timed_out) {
  static const struct wait_kind retry_kind = {.name = "os.open", .step = retry_step};
  struct opening *opening = ((struct handle *)lua_touserdata(L, HANDLE))->opening;
  (void)timed_out;
  if (!task_ended(&opening->task))
    return WAIT_AGAIN;
  if (opening->fd < 0 && opening->failure == ENXIO && opening->fifo)
    return wait_in(L, NULL, RETRY_INTERVAL, &retry_kind);
  if (opening->fd < 0)
    return failed(L, opening->failure);
  struct file *file = file_new(L, opening->fd, true);
  file->polls = opening->fifo && (lua_tointeger(L, FLAGS) & O_ACCMODE) == O_RDONLY;
  opening->fd = -1;
  return 1;
}

static int check_mode(lua_State *L, int arg) {
  const char *mode = luaL_optstring(L, arg, "r");
  int flags;
  switch (*mode) {
  case 'r':
    flags = O_RDONLY;
    break;
  case 'w':
    flags = O_WRONLY | O_CREAT | O_TRUNC;
    break;
  case 'a':
    flags = O_WRONLY | O_CREAT | O_APPEND;
    break;
  default:
    return luaL_argerror(L, arg, "invalid mode");
  }
  bool both = mode[1] == '+';
  const char *rest = mode + 1 + both;
  luaL_argcheck(L, *rest == 0 || strcmp(rest, "b") == 0, arg, "invalid mode");
  return both ? (flags & ~O_ACCMODE) | O_RDWR : flags;
}

static struct opening *new_opening(const char *path, size_t length, int flags) {
  struct opening *opening = calloc(1, sizeof *opening + length + 1);
  if (!opening)
    return NULL;
  memcpy(opening->path, path, length + 1);
  opening->flags = flags;
  opening->fd = -1;
  opening->task.work = perform;
  opening->task.free = dispose;
  return opening;
}

/* Opens what the stack says, in a new task. */
static int begin(lua_State *L) {
  static const struct wait_kind kind = {"os.open", open_step, .external = true,
                                        .enter = wakeup_enter, .leave = wakeup_leave};
  struct hub *hub = hub_of(L);
  size_t length;
  const char *path = lua_tolstring(L, PATH, &length);
  lua_settop(L, FLAGS);
  struct handle *handle = push_handle(L);
  struct opening *opening = new_opening(path, length, (int)lua_tointeger(L, FLAGS));
  int failure = opening ? task_start(&opening->task, hub, async_threads(hub)) : ENOMEM;
  if (failure) {
    free(opening);
    return failed(L, failure);
  }
  handle->opening = opening;
  return wait_in(L, &opening->task.wakeup.waiting, NO_LIMIT, &kind);
}

/***
 * os.open(path [, mode]): opens a file whose operations block only their greenlet.
 * A FIFO to be written waits until somebody reads it; one to be read waits at its first read.
 * @param path string
 * @param mode? string as for io.open: "r" if nothing is said
 * @return moonlet.os.File? # or nil
 * @return string? # a message
 * @return integer? # errno
 * Source: io.open, gevent.fileobject.FileObject.
 */
int os_open(lua_State *L) {
  size_t length;
  const char *path = luaL_checklstring(L, PATH, &length);
  luaL_argcheck(L, strlen(path) == length, PATH, "path contains a zero");
  int flags = check_mode(L, FLAGS);
  lua_settop(L, PATH);
  lua_pushinteger(L, flags);
  return begin(L);
}
