/*
 * head.c: see head.h.
 *
 * One pass over the application's headers checks and writes them, says how the body is to be
 * framed, and appends a body that is there already, so that head and body are sent in one go.
 */
#include "head.h"

#include <lauxlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "reason.h"

#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* A longer body is not copied behind the head. */
#define COPIED 65536

/* ---- text ---- */

static void grow(struct head *head, size_t needed) {
  char *text = lua_newuserdatauv(head->L, 2 * needed, 0);
  memcpy(text, head->text, head->size);
  lua_replace(head->L, head->at + HEAD_MEMORY);
  head->text = text;
  head->capacity = 2 * needed;
}

static inline char *room(struct head *head, size_t length) {
  size_t needed = head->size + length;
  if (unlikely(needed > head->capacity))
    grow(head, needed);
  char *to = head->text + head->size;
  head->size = needed;
  return to;
}

static inline void add(struct head *head, const char *text, size_t length) {
  memcpy(room(head, length), text, length);
}

#define ADD(head, literal) add(head, literal, sizeof(literal) - 1)

static void add_integer(struct head *head, lua_Integer value) {
  char digits[24], *at = digits + sizeof digits;
  do
    *--at = (char)('0' + value % 10);
  while (value /= 10);
  add(head, at, (size_t)(digits + sizeof digits - at));
}

/* Nothing that could end a line: it would be the next header, or the body. */
static void check_text(lua_State *L, const char *text, size_t length, const char *what) {
  bool bad = false;
  for (size_t i = 0; i < length; i++) {
    unsigned char byte = (unsigned char)text[i];
    bad |= (byte < ' ' && byte != '\t') || byte == 127;
  }
  if (unlikely(bad))
    luaL_error(L, "a control character in a response's %s", what);
}

/* The characters of a token. */
static const bool in_name[256] = {
    ['!'] = true,         ['#' ... '\''] = true, ['*'] = true,         ['+'] = true,
    ['-'] = true,         ['.'] = true,          ['0' ... '9'] = true, ['A' ... 'Z'] = true,
    ['^' ... 'z'] = true, ['|'] = true,          ['~'] = true};

static bool is_name(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (!in_name[(unsigned char)text[i]])
      return false;
  return length > 0;
}

/* ---- the first line ---- */

static void set_status(struct head *head, lua_Integer status) {
  if (status < 200 ? status != 101 : status > 999)
    luaL_error(head->L, "a response's status cannot be %d", (int)status);
  head->status = (int)status;
  head->bodiless = status < 200 || status == 204 || status == 304;
}

/* "200", or "200 With these words": the words, or NULL. */
static const char *parse_status(struct head *head, size_t *length) {
  lua_State *L = head->L;
  const char *text = lua_tolstring(L, head->at + HEAD_STATUS, length);
  if (!text || *length < 3 || strspn(text, "0123456789") != 3 || (*length > 3 && text[3] != ' '))
    luaL_error(L, "a response's status must be a number of three digits, or begin with one");
  check_text(L, text, *length, "status");
  set_status(head, (text[0] - '0') * 100 + (text[1] - '0') * 10 + text[2] - '0');
  *length -= *length > 4 ? 4 : *length;
  return *length ? text + 4 : NULL;
}

static void add_status(struct head *head) {
  size_t length = 0;
  const char *words = NULL;
  if (lua_type(head->L, head->at + HEAD_STATUS) == LUA_TNUMBER)
    set_status(head, lua_tointeger(head->L, head->at + HEAD_STATUS));
  else
    words = parse_status(head, &length);
  if (!words) {
    words = reason_of(head->status);
    length = strlen(words);
  }
  ADD(head, "HTTP/1.1 ");
  add_integer(head, head->status);
  ADD(head, " ");
  add(head, words, length);
  ADD(head, "\r\n");
}

/* ---- the application's headers ---- */

static bool is(const char *name, size_t length, const char *other, size_t other_length) {
  return length == other_length && strncasecmp(name, other, length) == 0;
}

#define IS(name, length, literal) is(name, length, literal, sizeof(literal) - 1)

static void note_length(struct head *head, const char *value, size_t length) {
  lua_Integer number = 0;
  bool good = length > 0 && length < 19 && !head->has_length;
  for (size_t i = 0; good && i < length; i++) {
    good = value[i] >= '0' && value[i] <= '9';
    number = number * 10 + (value[i] - '0');
  }
  if (!good)
    luaL_error(head->L, "a response's Content-Length must be one whole number");
  if (head->bodiless && number > 0)
    luaL_error(head->L, "a response of status %d has no body", head->status);
  head->has_length = true;
  head->length = number;
}

static bool has_word(const char *text, size_t length, const char *word) {
  size_t size = strlen(word);
  for (size_t i = 0; i + size <= length; i++)
    if (strncasecmp(text + i, word, size) == 0)
      return true;
  return false;
}

/* Of a header that means something to the server; false: it is not to be sent. */
static bool note(struct head *head, const char *name, size_t length, const char *value,
                 size_t value_length) {
  if (IS(name, length, "content-length")) {
    note_length(head, value, value_length);
    return !head->bodiless;
  }
  if (IS(name, length, "transfer-encoding"))
    luaL_error(head->L, "a response's Transfer-Encoding is the server's affair");
  if (IS(name, length, "connection")) {
    head->has_connection = true;
    head->keepalive = head->keepalive && !has_word(value, value_length, "close");
  } else if (IS(name, length, "date")) {
    head->has_date = true;
  }
  return true;
}

/* A float on top that is whole is written as an integer, 3.0 as 3. */
static void make_whole(lua_State *L) {
  int whole;
  lua_Integer value = lua_tointegerx(L, -1, &whole);
  if (whole) {
    lua_pushinteger(L, value);
    lua_replace(L, -2);
  }
}

/* The name, and the value on top, which is popped. */
static void add_field(struct head *head, const char *name, size_t length) {
  lua_State *L = head->L;
  size_t value_length;
  if (lua_type(L, -1) == LUA_TNUMBER)
    make_whole(L);
  const char *value = lua_tolstring(L, -1, &value_length);
  if (!value)
    luaL_error(L, "a response's header %s must be a string, a number, or a list of them (got %s)",
               name, luaL_typename(L, -1));
  check_text(L, value, value_length, "header");
  if (note(head, name, length, value, value_length)) {
    add(head, name, length);
    ADD(head, ": ");
    add(head, value, value_length);
    ADD(head, "\r\n");
  }
  lua_pop(L, 1);
}

/* The name, and on top the value or a list of values, which is popped. */
static void add_fields(struct head *head, const char *name, size_t length) {
  lua_State *L = head->L;
  if (!is_name(name, length))
    luaL_error(L, "a response's header has a name that cannot be one");
  if (!lua_istable(L, -1)) {
    add_field(head, name, length);
    return;
  }
  lua_Integer count = luaL_len(L, -1);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_geti(L, -1, i);
    add_field(head, name, length);
  }
  lua_pop(L, 1);
}

/* On top: { name, value }, which is popped. */
static void add_pair(struct head *head) {
  lua_State *L = head->L;
  size_t length = 0;
  if (!lua_istable(L, -1))
    luaL_error(L, "a response's headers must be by name, or a list of names and values");
  lua_geti(L, -1, 1);
  const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
  if (!name)
    luaL_error(L, "a response's header must have a name");
  lua_geti(L, -2, 2);
  add_fields(head, name, length);
  lua_pop(L, 2);
}

/* { Name = value or values }, or in an order of its own { { "Name", value }, ... }. */
static void add_headers(struct head *head) {
  lua_State *L = head->L;
  if (lua_isnil(L, head->at + HEAD_HEADERS))
    return;
  if (!lua_istable(L, head->at + HEAD_HEADERS))
    luaL_error(L, "a response's headers must be a table (got %s)",
               luaL_typename(L, head->at + HEAD_HEADERS));
  lua_pushnil(L);
  while (lua_next(L, head->at + HEAD_HEADERS)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      size_t length;
      const char *name = lua_tolstring(L, -2, &length);
      add_fields(head, name, length);
    } else {
      add_pair(head);
    }
  }
}

/* ---- the server's headers ---- */

static void add_connection(struct head *head) {
  if (head->has_connection)
    return;
  if (!head->keepalive)
    ADD(head, "Connection: close\r\n");
  else if (head->minor == 0)
    ADD(head, "Connection: keep-alive\r\n");
}

static void add_date(struct head *head) {
  static _Thread_local time_t known;
  static _Thread_local char date[40];
  time_t now = time(NULL);
  if (now != known) {
    struct tm parts;
    strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&now, &parts));
    known = now;
  }
  if (!head->has_date)
    add(head, date, strlen(date));
}

/* What follows the head, in the word that tells the server. */
static const char *add_framing(struct head *head, bool whole) {
  if (head->bodiless)
    return head->status == 101 ? "raw" : "none";
  if (head->has_length || whole) {
    if (!head->has_length) {
      ADD(head, "Content-Length: ");
      add_integer(head, head->length);
      ADD(head, "\r\n");
    }
    return head->head_only ? "none" : "length";
  }
  if (head->minor == 1)
    ADD(head, "Transfer-Encoding: chunked\r\n");
  return head->head_only ? "none" : head->minor == 1 ? "chunked" : "close";
}

/* ---- the whole ---- */

/* A body that is there: its length must be the one that the headers say. */
static void measure(struct head *head, const char *body, size_t length) {
  if (!body)
    return;
  if (head->bodiless && length > 0)
    luaL_error(head->L, "a response of status %d has no body", head->status);
  if (head->has_length && head->length != (lua_Integer)length && !head->head_only)
    luaL_error(head->L, "a response's body has %d bytes and not the %d of its Content-Length",
               (int)length, (int)head->length);
  if (!head->has_length)
    head->length = (lua_Integer)length;
}

/* Whether the body is one string, or nothing, which is as good as "". */
static bool is_whole(const struct head *head) {
  lua_State *L = head->L;
  if (lua_isnil(L, head->at + HEAD_BODY)) {
    lua_pushliteral(L, "");
    lua_replace(L, head->at + HEAD_BODY);
  }
  return lua_type(L, head->at + HEAD_BODY) == LUA_TSTRING;
}

const char *head_compose(struct head *head) {
  lua_State *L = head->L;
  bool whole = is_whole(head);
  size_t body_length = 0;
  const char *body = whole ? lua_tolstring(L, head->at + HEAD_BODY, &body_length) : NULL;
  add_status(head);
  add_headers(head);
  measure(head, body, body_length);
  if (!whole && !head->has_length && !head->bodiless && head->minor != 1)
    head->keepalive = false;
  if (head->status == 101)
    head->keepalive = false;
  else
    add_connection(head);
  add_date(head);
  const char *follows = add_framing(head, whole);
  ADD(head, "\r\n");
  if (!whole || *follows == 'r')
    return follows;
  if (*follows == 'n') {
    head->length = 0;
    return "done";
  }
  if (body_length > COPIED)
    return follows;
  add(head, body, body_length);
  return "done";
}

void head_add_trailers(struct head *head) {
  add_headers(head);
  if (head->has_length || head->has_connection)
    luaL_error(head->L, "Content-Length and Connection cannot be trailers");
}
