/* file.c: the class File, and how its greenlets wait (see file.h). */
#define _GNU_SOURCE
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

/* ---- results ---- */

int file_failed(lua_State *L, int failure) {
  lua_pushnil(L);
  lua_pushstring(L, strerror(failure));
  lua_pushinteger(L, failure);
  return 3;
}

int file_word(lua_State *L, const char *word) {
  lua_pushnil(L);
  lua_pushstring(L, word);
  return 2;
}

/* ---- output not written yet, when the process ends or forks ---- */

/* Those of this thread, which is that of their runtime. */
static _Thread_local struct link dirty;
static pthread_once_t dirty_once = PTHREAD_ONCE_INIT;

/* As C does with its own files, but never waits for whoever reads a pipe. */
static void flush_now(struct file *file) {
  struct operation *op = file->operation;
  if (op && op->process == getpid())
    wakeup_await(&op->task.wakeup);
  if (op)
    operation_settle(file);
  write_whole(file->fd, &file->out);
  buffer_clear(&file->out);
}

void file_flush_all(void) {
  while (dirty.next && !list_empty(&dirty)) {
    struct file *file = container_of(dirty.next, struct file, dirty);
    flush_now(file);
    file_note_dirty(file);
  }
}

static void flush_at_exit(void) { atexit(file_flush_all); }

void file_note_dirty(struct file *file) {
  bool unwritten = file->fd >= 0 &&
                   (buffer_length(&file->out) > 0 || (file->operation && file->operation->writes));
  if (unwritten == list_linked(&file->dirty))
    return;
  if (!unwritten)
    return list_remove(&file->dirty);
  pthread_once(&dirty_once, flush_at_exit);
  if (!dirty.next)
    list_init(&dirty);
  list_append(&dirty, &file->dirty);
}

/* ---- waiting ---- */

/*
 * Several may wait for a regular file, and both its sides for one operation, whose ring wakes one
 * waiter at a time.  If somebody has closed the descriptor of another, its number may be in use
 * again already: it is not the file's any more.
 */
static void tell(struct waiter *waiter) {
  struct side *side = container_of(waiter, struct side, waiter);
  list_remove(&waiter->link);
  if (side->file->regular)
    wait_notify(side->joined);
  else if (waiter->revents == IO_CLOSED)
    side->file->fd = -1;
  wait_notify_all(&side->ring);
}

void file_tell(struct file *file) {
  for (int i = SIDE_READ; i <= SIDE_WRITE; i++)
    if (list_linked(&file->sides[i].waiter.link))
      tell(&file->sides[i].waiter);
}

static void join(struct side *side, struct link *ring) {
  side->joined = ring;
  waiter_join(side->file->hub, ring, &side->waiter);
}

void file_enter(struct link *ring) {
  struct side *side = container_of(ring, struct side, ring);
  struct file *file = side->file;
  side->count++;
  if (file->regular)
    ev_ref(file->hub->loop);
  if (list_linked(&side->waiter.link))
    return;
  if (!file->regular) {
    join(side, file->ring);
    io_enter(file->ring);
  } else if (file->operation) {
    join(side, &file->operation->task.wakeup.waiting);
  }
}

void file_leave(struct link *ring) {
  struct side *side = container_of(ring, struct side, ring);
  struct file *file = side->file;
  side->count--;
  if (side->count == 0 && list_linked(&side->waiter.link))
    list_remove(&side->waiter.link);
  if (file->regular)
    ev_unref(file->hub->loop);
  else
    io_leave(file->ring);
}

int file_wait(lua_State *L, struct file *file, enum file_side side, const struct wait_kind *kind) {
  if (!file->regular)
    file->ring = io_ring(L, file->hub, file->fd);
  return wait_in(L, &file->sides[side].ring, file->timeout, kind);
}

/* ---- making and closing ---- */

static void init(lua_State *L, void *object) {
  struct file *file = object;
  file->hub = hub_of(L);
  file->fd = -1;
  file->limit = FILE_CHUNK;
  file->timeout = NO_LIMIT;
  for (int i = SIDE_READ; i <= SIDE_WRITE; i++) {
    struct side *side = &file->sides[i];
    *side = (struct side){.file = file, .waiter = {.notify = tell}};
    side->waiter.events = i == SIDE_READ ? EV_READ : EV_WRITE;
    list_init(&side->ring);
  }
}

void file_attach(lua_State *L, struct file *file, int fd, bool own) {
  struct stat status = {0};
  int flags = fcntl(fd, F_GETFL);
  fstat(fd, &status);
  file->regular = S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode);
  file->writable = (flags & O_ACCMODE) != O_RDONLY;
  file->polls = !own;
  file->buffers = file->regular ? BUFFER_FULL : BUFFER_NONE;
  file->fd = fd;
  if (own && !file->regular)
    io_own(L, file->hub, &file->fd);
}

struct file *file_new(lua_State *L, int fd, bool own) {
  struct file *file = class_new(L, &file_kind);
  file_attach(L, file, fd, own);
  return file;
}

struct file *file_check(lua_State *L) {
  struct file *file = class_check(L, 1, &file_kind);
  if (unlikely(file->fd < 0))
    luaL_error(L, "attempt to use a closed file");
  return file;
}

void file_shut(struct file *file) {
  int fd = file->fd;
  if (fd < 0)
    return;
  for (int i = SIDE_READ; i <= SIDE_WRITE; i++)
    if (file->regular && list_linked(&file->sides[i].waiter.link))
      list_remove(&file->sides[i].waiter.link);
  if (file->operation && file->operation->process == getpid()) {
    operation_hand_over(file);
  } else {
    write_whole(fd, &file->out);
    if (!file->regular)
      io_disown(file->hub, fd);
    if (!file->standard)
      close(fd);
  }
  file->fd = -1;
  file_note_dirty(file);
  for (int i = SIDE_READ; i <= SIDE_WRITE; i++)
    wait_notify_all(&file->sides[i].ring);
  buffer_free(&file->in);
  buffer_free(&file->out);
}

/* What could not be written is given up. */
static int finish(lua_State *L, struct file *file, int outcome) {
  if (outcome != 0)
    buffer_clear(&file->out);
  file_shut(file);
  if (outcome == FILE_WAIT)
    return file_word(L, "timeout");
  if (outcome != 0)
    return file_failed(L, outcome);
  lua_pushboolean(L, 1);
  return 1;
}

static int close_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  int outcome = file->fd < 0 ? 0 : file_drain(file);
  return outcome == FILE_WAIT && !timed_out ? WAIT_AGAIN : finish(L, file, outcome);
}

/***
 * File:close(): writes what is in the buffer, then closes the descriptor.
 * Whoever waits to read or write gets nil, "closed".  A second call does nothing.
 * @return boolean? # true; nil if something could not be written, but the file is closed
 * @return string? # "timeout" or a message
 * @return integer? # errno
 * Source: file:close, gevent.fileobject.
 * Differs: refuses while a greenlet is blocked in a read | wakes it: nil, "closed"
 */
static int l_close(lua_State *L) {
  static const struct wait_kind kind = {"File:close", close_step, FILE_WAITS};
  struct file *file = class_check(L, 1, &file_kind);
  lua_settop(L, 1);
  if (file->standard)
    return file_word(L, "cannot close standard file");
  if (file->fd < 0)
    return finish(L, file, 0);
  if (!file->regular && file->sides[SIDE_WRITE].count > 0)
    return buffer_clear(&file->out), finish(L, file, 0);
  int results = close_step(L, false);
  return results != WAIT_AGAIN ? results : file_wait(L, file, SIDE_WRITE, &kind);
}

static int l_gc(lua_State *L) {
  struct file *file = class_check(L, 1, &file_kind);
  file_shut(file);
  file_note_dirty(file);
  buffer_free(&file->in);
  buffer_free(&file->out);
  for (int i = SIDE_READ; file->regular && i <= SIDE_WRITE; i++)
    for (; file->sides[i].count > 0; file->sides[i].count--)
      ev_unref(file->hub->loop);
  return 0;
}

/***
 * File(fd [, shared]): a file over a descriptor, which it closes in the end.
 * @param fd integer
 * @param shared? boolean  false: nobody else has the same open file, so that the descriptor may
 *   be made non-blocking; otherwise its flags are left alone
 * @raise an error if it is not open
 */
static int l_new(lua_State *L) {
  struct file *file = class_check(L, 1, &file_kind);
  if (!lua_isinteger(L, 2))
    return class_typeerror(L, 2, "integer");
  lua_Integer fd = lua_tointeger(L, 2);
  bool own = lua_isboolean(L, 3) && !lua_toboolean(L, 3);
  int flags = fd >= 0 && fd <= 1 << 20 ? fcntl((int)fd, F_GETFL) : -1;
  if (flags == -1)
    return class_argerror(L, 2, "not an open descriptor");
  if (own)
    fcntl((int)fd, F_SETFL, flags | O_NONBLOCK);
  file_attach(L, file, (int)fd, own);
  return 0;
}

/* ---- the rest of a file's methods ---- */

static const char *const modes[] = {"no", "line", "full", NULL};

/***
 * File:setvbuf(mode [, size]): how output is buffered.
 * At first that of regular files is, that of all others is not.
 * @param mode "no"|"full"|"line"
 * @param size? integer  bytes
 * @return boolean # true
 * Source: file:setvbuf.
 */
static int l_setvbuf(lua_State *L) {
  struct file *file = file_check(L);
  int mode = luaL_checkoption(L, 2, NULL, modes);
  lua_Integer size = luaL_optinteger(L, 3, FILE_CHUNK);
  luaL_argcheck(L, size >= 0 && size <= 1 << 30, 3, "size out of range");
  file->buffers = (enum file_buffering)mode;
  file->limit = (size_t)size;
  lua_pushboolean(L, 1);
  return 1;
}

static int seek_step(lua_State *L, bool timed_out) {
  static const int whences[] = {SEEK_SET, SEEK_CUR, SEEK_END};
  struct file *file = lua_touserdata(L, 1);
  if (file->fd < 0)
    return file_word(L, "closed");
  int outcome = file_unread(file);
  if (outcome == 0)
    outcome = file_drain(file);
  if (outcome == FILE_WAIT)
    return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
  if (outcome != 0)
    return file_failed(L, outcome);
  off_t position = lseek(file->fd, (off_t)lua_tointeger(L, 3), whences[lua_tointeger(L, 2)]);
  if (position < 0)
    return file_failed(L, errno);
  lua_pushinteger(L, (lua_Integer)position);
  return 1;
}

/***
 * File:seek([whence [, offset]]): writes what is buffered, then sets the position.
 * @param whence? "set"|"cur"|"end"  "cur" if nothing is said
 * @param offset? integer  bytes
 * @return integer? # the position from the beginning; nil where there is none
 * @return string? # a message
 * @return integer? # errno
 * Source: file:seek.
 */
static int l_seek(lua_State *L) {
  static const char *const names[] = {"set", "cur", "end", NULL};
  static const struct wait_kind kind = {"File:seek", seek_step, FILE_WAITS};
  struct file *file = file_check(L);
  int whence = luaL_checkoption(L, 2, "cur", names);
  lua_Integer offset = luaL_optinteger(L, 3, 0);
  if (!file->regular)
    return file_failed(L, ESPIPE);
  if (file->sides[SIDE_READ].count > 0)
    return luaL_error(L, "another greenlet is reading this file");
  lua_settop(L, 1);
  lua_pushinteger(L, whence);
  lua_pushinteger(L, offset);
  int results = seek_step(L, false);
  return results != WAIT_AGAIN ? results : file_wait(L, file, SIDE_WRITE, &kind);
}

/***
 * File:settimeout([seconds]): how long each operation from now on may wait.
 * One that runs out returns nil, "timeout"; what was read so far stays for the next.
 * @param seconds? number  nil: for ever
 */
static int l_settimeout(lua_State *L) {
  struct file *file = file_check(L);
  double seconds = luaL_optnumber(L, 2, NO_LIMIT);
  luaL_argcheck(L, seconds == seconds, 2, "timeout is not a number");
  file->timeout = seconds;
  return 0;
}

/***
 * File:getfd(): the descriptor.
 * @return integer # -1 once it is closed
 */
static int l_getfd(lua_State *L) {
  const struct file *file = class_check(L, 1, &file_kind);
  lua_pushinteger(L, file->fd);
  return 1;
}

/***
 * File:dirty(): whether there is input in the buffer, where select() does not see it.
 * @return boolean
 */
static int l_dirty(lua_State *L) {
  const struct file *file = class_check(L, 1, &file_kind);
  lua_pushboolean(L, buffer_length(&file->in) > 0);
  return 1;
}

static int l_tostring(lua_State *L) {
  const struct file *file = class_check(L, 1, &file_kind);
  if (file->fd < 0)
    lua_pushliteral(L, "file (closed)");
  else
    lua_pushfstring(L, "file (%p)", file);
  return 1;
}

static const luaL_Reg methods[] = {
    {"new", l_new},        {"close", l_close},           {"__close", l_close},
    {"__gc", l_gc},        {"read", file_read},          {"lines", file_lines},
    {"write", file_write}, {"flush", file_flush},        {"setvbuf", l_setvbuf},
    {"seek", l_seek},      {"settimeout", l_settimeout}, {"getfd", l_getfd},
    {"dirty", l_dirty},    {"__tostring", l_tostring},   {NULL, NULL}};

/***
 * @class moonlet.os.File: Object
 * A file whose operations block only their greenlet; its methods are those of Lua's files.  One
 * greenlet at a time may read it.  As a `<close>` variable it is closed.
 */
const struct class_kind file_kind = {
    .name = "File", .size = sizeof(struct file), .init = init, .methods = methods};
