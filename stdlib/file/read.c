/*
 * read.c: reading a File: what Lua's formats ask for, out of the buffer.
 *
 * A read takes its bytes out of the buffer only when all its formats are done.  If it is killed
 * or timed out before, they are there for the next one.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "file.h"

/* ---- filling the buffer ---- */

#define MAX_FILL (16u << 20)

static bool ready(const struct file *file, short events) {
  struct pollfd polled = {.fd = file->fd, .events = events};
  return !file->polls || poll(&polled, 1, 0) != 0;
}

static int fill_from_descriptor(struct file *file, size_t size) {
  ssize_t count;
  if (!ready(file, POLLIN))
    return FILE_WAIT;
  if (!buffer_reserve(&file->in, size))
    return ENOMEM;
  do
    count = read(file->fd, file->in.data + file->in.end, size);
  while (count < 0 && errno == EINTR);
  if (count < 0)
    return errno == EAGAIN ? FILE_WAIT : errno;
  file->in.end += (size_t)count;
  return count > 0 ? 0 : FILE_END;
}

/* What is written comes before what is read; a read that somebody gave up brings its bytes. */
static int fill_from_file(struct file *file, size_t size) {
  if (file->operation && !file->operation->writes)
    return operation_settle(file);
  int outcome = file_drain(file);
  if (outcome == 0)
    outcome = operation_start(file, false, size);
  return outcome == 0 ? FILE_WAIT : outcome;
}

int file_fill(struct file *file, size_t wanted) {
  size_t size = wanted < FILE_CHUNK ? FILE_CHUNK : wanted < MAX_FILL ? wanted : MAX_FILL;
  return file->regular ? fill_from_file(file, size) : fill_from_descriptor(file, size);
}

int file_unread(struct file *file) {
  if (file->operation && !file->operation->writes) {
    int outcome = operation_settle(file);
    if (outcome == FILE_WAIT)
      return outcome;
  }
  off_t ahead = (off_t)buffer_length(&file->in);
  if (ahead > 0 && lseek(file->fd, -ahead, SEEK_CUR) < 0)
    return errno;
  buffer_clear(&file->in);
  return 0;
}

/* ---- formats ---- */

enum found { FOUND, NOTHING, MORE }; /* FOUND has pushed a value */

static const char *window(const struct file *file, size_t *size) {
  size_t at = file->in.start + file->taken;
  *size = file->in.end - at;
  return file->in.data ? file->in.data + at : "";
}

static enum found use(lua_State *L, struct file *file, size_t pushed, size_t taken) {
  size_t size;
  lua_pushlstring(L, window(file, &size), pushed);
  file->taken += taken;
  file->scanned = 0;
  return FOUND;
}

static enum found find_line(lua_State *L, struct file *file, bool keep, bool ended) {
  size_t size;
  const char *data = window(file, &size);
  const char *newline = memchr(data + file->scanned, '\n', size - file->scanned);
  if (newline)
    return use(L, file, (size_t)(newline - data) + keep, (size_t)(newline - data) + 1);
  file->scanned = size;
  if (!ended)
    return MORE;
  return size > 0 ? use(L, file, size, size) : NOTHING;
}

static enum found find_bytes(lua_State *L, struct file *file, size_t wanted, bool ended) {
  size_t size;
  window(file, &size);
  if (size >= wanted && size > 0)
    return use(L, file, wanted, wanted);
  if (!ended)
    return MORE;
  return size > 0 ? use(L, file, size, size) : NOTHING;
}

static enum found find_all(lua_State *L, struct file *file, bool ended) {
  size_t size;
  window(file, &size);
  return ended ? use(L, file, size, size) : MORE;
}

/* ---- numbers, as Lua reads them ---- */

enum { MAX_NUMBER = 200 };

struct scan {
  const char *at, *end;
  char text[MAX_NUMBER + 1];
  int length;
  bool ran_out, too_long;
};

/* Takes the next character if it is one of `set`. */
static bool take_one(struct scan *scan, const char *set) {
  if (scan->at == scan->end) {
    scan->ran_out = true;
    return false;
  }
  if (!*scan->at || !strchr(set, *scan->at))
    return false;
  if (scan->length >= MAX_NUMBER) {
    scan->too_long = true;
    return false;
  }
  scan->text[scan->length++] = *scan->at++;
  return true;
}

static int take_digits(struct scan *scan, bool hexadecimal) {
  int count = 0;
  while (take_one(scan, hexadecimal ? "0123456789abcdefABCDEF" : "0123456789"))
    count++;
  return count;
}

static void scan_number(struct scan *scan) {
  int count = 0;
  bool hexadecimal = false;
  while (scan->at < scan->end && isspace((unsigned char)*scan->at))
    scan->at++;
  take_one(scan, "+-");
  if (take_one(scan, "0")) {
    hexadecimal = take_one(scan, "xX");
    count = !hexadecimal;
  }
  count += take_digits(scan, hexadecimal);
  if (take_one(scan, "."))
    count += take_digits(scan, hexadecimal);
  if (count > 0 && take_one(scan, hexadecimal ? "pP" : "eE")) {
    take_one(scan, "+-");
    take_digits(scan, false);
  }
}

static enum found find_number(lua_State *L, struct file *file, bool ended) {
  size_t size;
  const char *data = window(file, &size);
  struct scan scan = {.at = data, .end = data + size};
  scan_number(&scan);
  if (scan.ran_out && !scan.too_long && !ended)
    return MORE;
  scan.text[scan.too_long ? 0 : scan.length] = 0;
  file->taken += (size_t)(scan.at - data);
  file->scanned = 0;
  return lua_stringtonumber(L, scan.text) ? FOUND : NOTHING;
}

/* ---- read ---- */

/* The stack of a read: the file, the number of formats, the formats, results so far. */
enum { COUNT = 2, FORMATS = 3 };

static void check_formats(lua_State *L, int first, int last) {
  for (int i = first; i <= last; i++) {
    if (lua_type(L, i) == LUA_TNUMBER) {
      luaL_argcheck(L, luaL_checkinteger(L, i) >= 0, i, "negative size");
      continue;
    }
    const char *format = luaL_checkstring(L, i);
    format += *format == '*';
    luaL_argcheck(L, *format && strchr("nlLa", *format), i, "invalid format");
  }
}

static enum found find(lua_State *L, struct file *file, int format, size_t *wanted, bool ended) {
  *wanted = FILE_CHUNK;
  if (lua_type(L, format) == LUA_TNUMBER) {
    *wanted = (size_t)lua_tointeger(L, format);
    return find_bytes(L, file, *wanted, ended);
  }
  const char *name = lua_tostring(L, format);
  switch (name[*name == '*']) {
  case 'n':
    return find_number(L, file, ended);
  case 'a':
    *wanted = buffer_length(&file->in);
    return find_all(L, file, ended);
  case 'L':
    return find_line(L, file, true, ended);
  default:
    return find_line(L, file, false, ended);
  }
}

static void commit(struct file *file) {
  buffer_take(&file->in, file->taken);
  file->taken = 0;
  if (buffer_length(&file->in) == 0 && file->in.capacity > 4 * (size_t)FILE_CHUNK)
    buffer_free(&file->in);
}

static int read_step(lua_State *L, bool timed_out) {
  struct file *file = lua_touserdata(L, 1);
  int count = (int)lua_tointeger(L, COUNT);
  bool ended = false;
  if (file->fd < 0)
    return file_word(L, "closed");
  for (int done = lua_gettop(L) - count - COUNT; done < count;) {
    size_t wanted;
    enum found found = find(L, file, FORMATS + done, &wanted, ended);
    if (found == FOUND) {
      done++;
    } else if (found == NOTHING) {
      lua_pushnil(L);
      count = done + 1;
      break;
    } else {
      int outcome = file_fill(file, wanted);
      ended = outcome == FILE_END;
      if (outcome == FILE_WAIT)
        return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
      if (outcome > 0)
        return file_failed(L, outcome);
    }
  }
  commit(file);
  return count;
}

/* On the stack: the file and formats. */
static int start(lua_State *L, const struct wait_kind *kind) {
  struct file *file = lua_touserdata(L, 1);
  if (lua_gettop(L) == 1)
    lua_pushliteral(L, "l");
  int count = lua_gettop(L) - 1;
  check_formats(L, 2, count + 1);
  if (file->sides[SIDE_READ].count > 0)
    return luaL_error(L, "another greenlet is reading this file");
  luaL_checkstack(L, count + LUA_MINSTACK, "too many formats");
  lua_pushinteger(L, count);
  lua_insert(L, COUNT);
  file->taken = file->scanned = 0;
  int results = kind->step(L, false);
  return results != WAIT_AGAIN ? results : file_wait(L, file, SIDE_READ, kind);
}

/***
 * File:read(...): reads what each format says: "n" a number, "a" all the rest, "l" a line, "L" a
 * line with its end, an integer so many bytes; a line if nothing is said.
 * Nothing is lost when a read is killed or runs out of time: its bytes stay for the next.
 * @return string|number|nil ... # a value for each format; nil for the first that fails, and at the
 *   end of the file
 * @return string? message # "timeout", "closed" or another, after nil, if reading failed
 * @return integer? errno
 * @raise an error if the file is closed, or if another greenlet is reading it
 * Source: file:read.
 */
int file_read(lua_State *L) {
  static const struct wait_kind kind = {"File:read", read_step, FILE_WAITS};
  file_check(L);
  return start(L, &kind);
}

/* ---- lines ---- */

static int line_step(lua_State *L, bool timed_out) {
  int results = read_step(L, timed_out);
  if (results > 1 && lua_isnil(L, -results))
    return luaL_error(L, "%s", lua_tostring(L, 1 - results));
  return results;
}

static int l_next(lua_State *L) {
  static const struct wait_kind kind = {"File:lines", line_step, FILE_WAITS};
  int count = (int)lua_tointeger(L, lua_upvalueindex(1));
  lua_settop(L, 0);
  luaL_checkstack(L, count, "too many formats");
  for (int i = 0; i < count; i++)
    lua_pushvalue(L, lua_upvalueindex(2 + i));
  const struct file *file = class_check(L, 1, &file_kind);
  if (file->fd < 0)
    return luaL_error(L, "file is already closed");
  return start(L, &kind);
}

/***
 * File:lines(...): iterates over what read with the same formats returns, until that is nil.
 * @return fun():any
 * @raise an error, while it iterates, if reading fails
 * Source: file:lines.
 */
int file_lines(lua_State *L) {
  file_check(L);
  int count = lua_gettop(L);
  luaL_argcheck(L, count <= 250, 252, "too many arguments");
  check_formats(L, 2, count);
  lua_pushinteger(L, count);
  lua_insert(L, 1);
  lua_pushcclosure(L, l_next, count + 1);
  return 1;
}
