/* write.c: writing a File, through its buffer or past it. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "file.h"

/* ---- getting rid of bytes ---- */

int file_write_once(int fd, bool polls, const char *data, size_t size, size_t *count) {
  *count = 0;
  if (polls) {
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    if (poll(&polled, 1, 0) == 0)
      return FILE_WAIT;
    size = size < PIPE_BUF ? size : PIPE_BUF;
  }
  ssize_t written;
  do
    written = write(fd, data, size);
  while (written < 0 && errno == EINTR);
  if (written < 0)
    return errno == EAGAIN ? FILE_WAIT : errno;
  *count = (size_t)written;
  return 0;
}

static int write_some(const struct file *file, const char *data, size_t size, size_t *count) {
  return file_write_once(file->fd, file->polls, data, size, count);
}

static int drain_to_descriptor(struct file *file) {
  while (buffer_length(&file->out) > 0) {
    size_t count;
    int outcome =
        write_some(file, file->out.data + file->out.start, buffer_length(&file->out), &count);
    if (outcome == FILE_WAIT)
      return outcome;
    if (outcome != 0) {
      buffer_clear(&file->out);
      return outcome;
    }
    buffer_take(&file->out, count);
  }
  return 0;
}

/* The error of something written before, told once. */
static int take_failure(struct file *file) {
  int failure = file->failure;
  file->failure = 0;
  return failure;
}

/* What is under way comes first; then the buffer goes, whole. */
static int drain_to_file(struct file *file) {
  if (file->operation && operation_settle(file) == FILE_WAIT)
    return FILE_WAIT;
  if (file->failure)
    return take_failure(file);
  if (buffer_length(&file->out) == 0)
    return 0;
  int failure = operation_start(file, true, 0);
  return failure ? failure : FILE_WAIT;
}

int file_drain(struct file *file) {
  int outcome = file->regular ? drain_to_file(file) : drain_to_descriptor(file);
  file_note_dirty(file);
  return outcome;
}

/* ---- write ---- */

static int busy(lua_State *L) { return luaL_error(L, "another greenlet is writing to this file"); }

/* Replaces the numbers among the arguments by strings, as Lua writes them. */
static void check_strings(lua_State *L) {
  char text[64];
  for (int i = 2; i <= lua_gettop(L); i++) {
    if (lua_type(L, i) == LUA_TNUMBER && !lua_isinteger(L, i)) {
      snprintf(text, sizeof text, LUA_NUMBER_FMT, lua_tonumber(L, i));
      lua_pushstring(L, text);
      lua_replace(L, i);
    }
    luaL_checklstring(L, i, NULL);
  }
}

static int written(lua_State *L) {
  lua_settop(L, 1);
  return 1;
}

/* How a wait for the buffer ends: on the stack the file alone. */
static int flush_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  if (file->fd < 0)
    return file_word(L, "closed");
  int outcome = file_drain(file);
  if (outcome == FILE_WAIT)
    return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
  return outcome == 0 ? written(L) : file_failed(L, outcome);
}

/* The buffer of a regular file is full: waits only for the one before it. */
static int behind_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  if (file->fd < 0)
    return file_word(L, "closed");
  bool before = file->operation != NULL;
  int outcome = file_drain(file);
  if (outcome > 0)
    return file_failed(L, outcome);
  bool same = before && outcome == FILE_WAIT && buffer_length(&file->out) > 0;
  if (same)
    return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
  return written(L);
}

static bool is_full(lua_State *L, const struct file *file) {
  size_t length;
  if (file->buffers == BUFFER_NONE || buffer_length(&file->out) > file->limit)
    return true;
  for (int i = 2; file->buffers == BUFFER_LINE && i <= lua_gettop(L); i++) {
    const char *text = lua_tolstring(L, i, &length);
    if (memchr(text, '\n', length))
      return true;
  }
  return false;
}

/* The arguments go into the buffer, all of them or, for want of memory, none. */
static bool append(lua_State *L, struct file *file) {
  size_t total = 0, length;
  for (int i = 2; i <= lua_gettop(L); i++)
    total += lua_rawlen(L, i);
  if (!buffer_reserve(&file->out, total))
    return false;
  for (int i = 2; i <= lua_gettop(L); i++) {
    const char *text = lua_tolstring(L, i, &length);
    buffer_append(&file->out, text, length);
  }
  file_note_dirty(file);
  return true;
}

static int buffered_step(lua_State *L, bool timed_out);

static const struct wait_kind buffered_kind = {"File:write", buffered_step, FILE_WAITS};

/* While its arguments are on the stack, the write has not begun. */
static int buffered_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  if (file->fd < 0)
    return file_word(L, "closed");
  if (lua_gettop(L) > 1) {
    int outcome = file->regular ? file_unread(file) : 0;
    if (outcome == FILE_WAIT)
      return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
    if (outcome != 0 || !append(L, file))
      return file_failed(L, outcome != 0 ? outcome : ENOMEM);
    bool full = is_full(L, file);
    lua_settop(L, 1);
    if (!full)
      return 1;
  }
  return file->regular && file->buffers == BUFFER_FULL ? behind_step(L, timed_out)
                                                       : flush_step(L, timed_out);
}

/* Past the buffer.  On the stack: the file, the string, how much of it is written. */
static int direct_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  size_t size, at = (size_t)lua_tointeger(L, 3), count;
  const char *data = lua_tolstring(L, 2, &size);
  if (file->fd < 0)
    return file_word(L, "closed");
  while (at < size) {
    int outcome = write_some(file, data + at, size - at, &count);
    at += count;
    if (outcome == FILE_WAIT) {
      lua_pushinteger(L, (lua_Integer)at);
      lua_replace(L, 3);
      return timed_out ? file_word(L, "timeout"), lua_pushinteger(L, (lua_Integer)at),
             3         : WAIT_AGAIN;
    }
    if (outcome != 0)
      return file_failed(L, outcome);
  }
  return written(L);
}

static const struct wait_kind direct_kind = {"File:write", direct_step, FILE_WAITS};

/***
 * File:write(...): writes strings and numbers.
 * To a regular file any number of greenlets may write at once: each call's bytes stay together,
 * and a kill does not keep them from being written. To others, one at a time.
 * @return File? # the file itself, or nil
 * @return string? # "timeout", "closed" or another message; in a buffer's case it may be about
 *   something written before
 * @return integer? # errno; after "timeout" how many bytes were written past the buffer
 * @raise an error if the file is closed, or if another greenlet is writing to it
 * Source: file:write.
 */
int file_write(lua_State *L) {
  struct file *file = file_check(L);
  check_strings(L);
  if (!file->writable)
    return file_failed(L, EBADF);
  if (lua_gettop(L) == 1)
    return 1;
  if (!file->regular && file->sides[SIDE_WRITE].count > 0)
    return busy(L);
  const struct wait_kind *kind = &buffered_kind;
  if (!file->regular && file->buffers == BUFFER_NONE && buffer_length(&file->out) == 0) {
    kind = &direct_kind;
    if (lua_gettop(L) > 2)
      lua_concat(L, lua_gettop(L) - 1);
    lua_pushinteger(L, 0);
  }
  int results = kind->step(L, false);
  return results != WAIT_AGAIN ? results : file_wait(L, file, SIDE_WRITE, kind);
}

/***
 * File:flush(): writes what is in the buffer, and waits until that is done.
 * @return File? # the file itself, or nil
 * @return string? # "timeout", "closed" or another message
 * @return integer? # errno
 * @raise an error if the file is closed, or if another greenlet is writing to it
 * Source: file:flush.
 */
int file_flush(lua_State *L) {
  static const struct wait_kind kind = {"File:flush", flush_step, FILE_WAITS};
  struct file *file = file_check(L);
  lua_settop(L, 1);
  if (!file->regular && file->sides[SIDE_WRITE].count > 0)
    return busy(L);
  int results = flush_step(L, false);
  return results != WAIT_AGAIN ? results : file_wait(L, file, SIDE_WRITE, &kind);
}
