/*
 * receive.c: LuaSocket's patterns, read from a stream as it arrives.
 *
 * What arrives lies in the hub's scratch memory first.  Most often a call takes all of it,
 * and nothing is ever allocated but the string returned; what is left over, or is not
 * enough yet, moves to the stream's own buffer.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "stream.h"

enum pattern { LINE = -1, ALL = -2 }; /* or a number of bytes */

enum { INDEX_SELF = 1, INDEX_PATTERN, INDEX_PREFIX };

/* What a large receive makes room for at a time. */
#define MAX_ROOM (4 << 20)

/* After so many reads that found all they had room for, the others have a turn. */
#define MAX_READS 16

/* Of read_on, beside the transport's words. */
enum { GO_ON = 0, SATISFIED = 1, ENDED = 2 };

/* Bytes that have arrived: in the stream's buffer, or just now in the scratch memory. */
struct window {
  const char *data;
  size_t length;
  bool scratch;
};

static struct window buffered(const struct stream *self) {
  return (struct window){self->buffer + self->start, self->end - self->start, false};
}

/* ---- the buffer ---- */

/* Makes room for `size` more bytes behind what is buffered. */
static bool reserve(struct stream *self, size_t size) {
  size_t length = self->end - self->start;
  if (self->capacity - self->end >= size)
    return true;
  if (self->start) {
    memmove(self->buffer, self->buffer + self->start, length);
    self->start = 0;
    self->end = length;
  }
  if (self->capacity - length >= size)
    return true;
  size_t capacity = length + size;
  if (capacity < 2 * self->capacity)
    capacity = 2 * self->capacity;
  char *buffer = realloc(self->buffer, capacity);
  if (!buffer)
    return false;
  self->buffer = buffer;
  self->capacity = capacity;
  return true;
}

static void keep(lua_State *L, struct stream *self, const char *data, size_t length) {
  if (!reserve(self, length))
    luaL_error(L, "not enough memory");
  memcpy(self->buffer + self->end, data, length);
  self->end += length;
}

/* ---- taking what was asked for ---- */

static void push_prefixed(lua_State *L, const char *data, size_t length) {
  size_t prefix = 0;
  lua_pushlstring(L, data, length);
  if (lua_tolstring(L, INDEX_PREFIX, &prefix) && prefix) {
    lua_pushvalue(L, INDEX_PREFIX);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
}

/* LuaSocket ignores every CR of a line. */
static void push_line(lua_State *L, const char *data, size_t length) {
  if (length && data[length - 1] == '\r')
    length--;
  const char *cr = length ? memchr(data, '\r', length) : NULL;
  if (likely(!cr)) {
    push_prefixed(L, data, length);
    return;
  }
  luaL_Buffer line;
  char *to = luaL_buffinitsize(L, &line, length);
  size_t count = 0;
  for (size_t i = 0; i < length; i++)
    if (data[i] != '\r')
      to[count++] = data[i];
  luaL_pushresultsize(&line, count);
  push_prefixed(L, lua_tostring(L, -1), count);
  lua_remove(L, -2);
}

/* So many bytes of the window are used: keeps the others. */
static void consume(lua_State *L, struct stream *self, struct window window, size_t used) {
  self->sock.received += used;
  if (window.scratch) {
    if (used < window.length)
      keep(L, self, window.data + used, window.length - used);
    return;
  }
  self->start += used;
  if (self->start == self->end)
    stream_discard(self);
}

static int take(lua_State *L, struct stream *self, struct window window, size_t length, size_t used,
                bool line) {
  if (line)
    push_line(L, window.data, length);
  else
    push_prefixed(L, window.data, length);
  self->scanned = 0;
  consume(L, self, window, used);
  return 1;
}

/* nil, why, and what has arrived. */
static int take_partial(lua_State *L, struct stream *self, lua_Integer pattern, size_t length,
                        const char *why) {
  struct window window = buffered(self);
  luaL_pushfail(L);
  lua_pushstring(L, why);
  take(L, self, window, length, length, pattern == LINE);
  return 3;
}

/* ---- receive ---- */

/* Whether the window holds all of it; if so, takes it.  Who asks for 0 bytes asks whether any
   have come. */
static bool satisfied(lua_State *L, struct stream *self, struct window window,
                      lua_Integer pattern) {
  if (!window.length || pattern == ALL)
    return false;
  if (pattern >= 0) {
    if ((lua_Unsigned)pattern > window.length)
      return false;
    return take(L, self, window, (size_t)pattern, (size_t)pattern, false);
  }
  const char *lf = memchr(window.data + self->scanned, '\n', window.length - self->scanned);
  if (!lf) {
    self->scanned = window.length;
    return false;
  }
  size_t length = (size_t)(lf - window.data);
  if (self->line_limit && length > self->line_limit)
    return false;
  return take(L, self, window, length, length + 1, true);
}

/* How much of a line or a whole stream may be buffered. */
static bool too_long(const struct stream *self, lua_Integer pattern) {
  return pattern < 0 && self->line_limit && self->end - self->start > self->line_limit;
}

/*
 * Reads once, into the scratch memory unless a lot is wanted at once.  What the call cannot
 * use yet is kept.  `reads` counts down to 0: then the others should have a turn.
 */
static ssize_t read_on(lua_State *L, struct stream *self, lua_Integer pattern, int *reads) {
  size_t have = self->end - self->start, room = IO_SCRATCH;
  bool direct = pattern > IO_SCRATCH;
  char *data;
  if (direct) {
    room = (size_t)pattern - have < MAX_ROOM ? (size_t)pattern - have : MAX_ROOM;
    if (!reserve(self, room))
      luaL_error(L, "not enough memory");
    data = self->buffer + self->end;
  } else {
    data = io_scratch(L, self->sock.hub);
  }
  ssize_t count = stream_read(self, data, room);
  if (count <= 0)
    return count == TRANSPORT_END ? ENDED : count;
  *reads = stream_drains(self, (size_t)count, room) ? 0 : *reads - 1;
  if (direct)
    self->end += (size_t)count;
  else if (have == 0 && satisfied(L, self, (struct window){data, (size_t)count, true}, pattern))
    return SATISFIED;
  else
    keep(L, self, data, (size_t)count);
  return (direct || have) && satisfied(L, self, buffered(self), pattern) ? SATISFIED : GO_ON;
}

static int stopped(lua_State *L, struct stream *self, lua_Integer pattern, const char *why) {
  return take_partial(L, self, pattern, self->end - self->start, why);
}

/* The peer has sent its last byte: all up to here is what "*a" asks for. */
static int ended(lua_State *L, struct stream *self, lua_Integer pattern) {
  size_t length = self->end - self->start;
  if (pattern == ALL && length)
    return take(L, self, buffered(self), length, length, false);
  return stopped(L, self, pattern, "closed");
}

static int receive_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, INDEX_SELF);
  lua_Integer pattern = lua_tointeger(L, INDEX_PATTERN);
  int reads = stream_waits_first(self) ? 0 : MAX_READS;
  for (;;) {
    if (sock_gone(&self->sock))
      return stopped(L, self, pattern, "closed");
    if (too_long(self, pattern))
      return take_partial(L, self, pattern, self->line_limit, "too long");
    ssize_t word = reads > 0 ? read_on(L, self, pattern, &reads) : TRANSPORT_WANT_READ;
    if (word == SATISFIED) {
      self->drained = reads == 0;
      return 1;
    }
    if (word == ENDED)
      return ended(L, self, pattern);
    if (word == TRANSPORT_WANT_READ || word == TRANSPORT_WANT_WRITE) {
      if (timed_out)
        return stopped(L, self, pattern, stream_timeout(self, word));
      return sock_again(&self->sock, stream_events(word), self->sock.read_due);
    }
    if (word != GO_ON) {
      stream_fail(L, self, word);
      return stopped(L, self, pattern, lua_tostring(L, -1));
    }
  }
}

static const struct wait_kind receive_kind = {"socket:receive", receive_step, SOCK_READING};

/* As for LuaSocket, the first letter of a word is enough, and a string may hold a number. */
static lua_Integer check_pattern(lua_State *L) {
  if (lua_isnumber(L, INDEX_PATTERN)) {
    lua_Number size = lua_tonumber(L, INDEX_PATTERN);
    luaL_argcheck(L, size >= 0 && size < 0x1p53, INDEX_PATTERN, "invalid receive pattern");
    return (lua_Integer)size;
  }
  const char *pattern = luaL_optstring(L, INDEX_PATTERN, "*l");
  pattern += *pattern == '*';
  if (*pattern == 'l')
    return LINE;
  if (*pattern == 'a')
    return ALL;
  return luaL_argerror(L, INDEX_PATTERN, "invalid receive pattern");
}

/* The prefix counts towards the number of bytes; whether it is all that was asked for. */
static bool prefix_suffices(lua_State *L, lua_Integer *pattern) {
  size_t length;
  luaL_checklstring(L, INDEX_PREFIX, &length);
  if (*pattern < 0 || !length)
    return false;
  *pattern -= (lua_Integer)length;
  return *pattern <= 0;
}

int stream_receive(lua_State *L) {
  struct stream *self = lua_touserdata(L, INDEX_SELF);
  lua_Integer pattern = check_pattern(L);
  lua_settop(L, INDEX_PREFIX);
  if (unlikely(!lua_isnil(L, INDEX_PREFIX)) && prefix_suffices(L, &pattern))
    return 1;
  lua_pushinteger(L, pattern);
  lua_replace(L, INDEX_PATTERN);
  bool busy = self->sock.fd >= 0 && io_reading(self->sock.ring);
  if (!busy) {
    self->scanned = 0;
    if (satisfied(L, self, buffered(self), pattern))
      return 1;
  }
  return sock_read(L, &self->sock, &receive_kind);
}

/* ---- recv ---- */

/* nil, why, and errno unless that is the orderly end. */
static int recv_fail(lua_State *L, struct stream *self, ssize_t word) {
  int error = word == TRANSPORT_CUT ? ECONNRESET : errno;
  stream_fail(L, self, word);
  if (word == TRANSPORT_END || (word == TRANSPORT_FAILED && self->transport))
    return 2;
  lua_pushinteger(L, error);
  return 3;
}

/* On the stack: the stream, how many bytes at most if that is said. */
static int recv_step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, 1);
  size_t most = (size_t)lua_tointeger(L, 2), have = self->end - self->start;
  most = most ? most : IO_SCRATCH;
  if (have) {
    size_t length = have < most ? have : most;
    return take(L, self, buffered(self), length, length, false);
  }
  if (sock_gone(&self->sock))
    return sock_fail_with(L, "closed");
  char *data = io_scratch(L, self->sock.hub);
  size_t room = most < IO_SCRATCH ? most : IO_SCRATCH;
  ssize_t count = stream_waits_first(self) ? TRANSPORT_WANT_READ : stream_read(self, data, room);
  if (likely(count > 0)) {
    self->drained = stream_drains(self, (size_t)count, room);
    self->sock.received += (uint64_t)count;
    lua_pushlstring(L, data, (size_t)count);
    return 1;
  }
  if (count == TRANSPORT_WANT_READ || count == TRANSPORT_WANT_WRITE)
    return timed_out ? sock_fail_with(L, stream_timeout(self, count))
                     : sock_again(&self->sock, stream_events(count), self->sock.read_due);
  return recv_fail(L, self, count);
}

int stream_recv(lua_State *L) {
  static const struct wait_kind kind = {"socket:recv", recv_step, SOCK_READING};
  struct stream *self = lua_touserdata(L, 1);
  luaL_argcheck(L, luaL_optinteger(L, 2, IO_SCRATCH) > 0, 2, "must be positive");
  lua_settop(L, INDEX_PATTERN);
  lua_settop(L, INDEX_PREFIX); /* there is none */
  return sock_read(L, &self->sock, &kind);
}
