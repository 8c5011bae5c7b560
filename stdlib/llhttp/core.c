/*
 * core.c: require "moonlet.llhttp.core", parsers of HTTP/1 as Lua objects.
 *
 * They never wait and know nothing of the hub: bytes go in, events come out.
 */
#include <string.h>

#include "parser.h"

__attribute__((visibility("default"))) int luaopen_moonlet_llhttp_core(lua_State *L);

#define KIND "moonlet.llhttp.Parser"

static const struct reader_kind reader_kind;

/* Argument 1. */
static struct parser *check(lua_State *L) {
  struct parser *self = lua_touserdata(L, 1);
  if (lua_type(L, 1) == LUA_TUSERDATA && lua_rawlen(L, 1) == sizeof *self &&
      self->reader.kind == &reader_kind)
    return self;
  return luaL_checkudata(L, 1, KIND);
}

/* ---- new ---- */

static void limit(lua_State *L, const char *name, size_t *value) {
  if (lua_getfield(L, 2, name) != LUA_TNIL) {
    lua_Integer given = lua_tointeger(L, -1);
    if (given <= 0)
      luaL_error(L, "bad argument #2 to 'new' (limit '%s' must be a positive integer)", name);
    *value = (size_t)given;
  }
  lua_pop(L, 1);
}

/***
 * llhttp.new(kind [, limits]): a parser for what one end of a connection sends.
 * @param kind "request"|"response"
 * @param limits? table  `line`: so many bytes of a line, with its end, are too many (8192);
 *   `header_bytes`: most bytes of a head with its trailers (65536); `header_count`: most fields
 *   (100); `extension_bytes`: most bytes of the chunk extensions of a message (16384)
 * @return moonlet.llhttp.Parser
 */
static int l_new(lua_State *L) {
  static const char *const kinds[] = {"request", "response", NULL};
  struct limits limits = {8192, 65536, 100, 16384};
  int kind = luaL_checkoption(L, 1, NULL, kinds);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    limit(L, "line", &limits.line);
    limit(L, "header_bytes", &limits.header_bytes);
    limit(L, "header_count", &limits.header_count);
    limit(L, "extension_bytes", &limits.extension_bytes);
  }
  struct parser *self = lua_newuserdatauv(L, sizeof *self, 1);
  parser_init(self, kind == 0, &limits);
  self->reader.kind = &reader_kind;
  luaL_setmetatable(L, KIND);
  lua_pushvalue(L, lua_upvalueindex(1));
  cgi_keep_words(L, -2, self);
  return 1;
}

/* ---- execute ---- */

/* The pieces of the body that one call finds: mostly one. */
struct pieces {
  const char *first;
  size_t length;
  bool buffered;
  luaL_Buffer buffer;
};

static void add_piece(lua_State *L, struct pieces *pieces, const char *data, size_t length) {
  if (!pieces->first) {
    pieces->first = data;
    pieces->length = length;
    return;
  }
  if (!pieces->buffered) {
    luaL_buffinit(L, &pieces->buffer);
    luaL_addlstring(&pieces->buffer, pieces->first, pieces->length);
    pieces->buffered = true;
  }
  luaL_addlstring(&pieces->buffer, data, length);
}

static int body(lua_State *L, struct pieces *pieces, size_t next) {
  if (pieces->buffered)
    luaL_pushresult(&pieces->buffer);
  else
    lua_pushlstring(L, pieces->first, pieces->length);
  lua_pushliteral(L, "body");
  lua_pushinteger(L, (lua_Integer)next);
  lua_rotate(L, -3, 2);
  return 3;
}

static int failure(lua_State *L, const struct parser *self) {
  luaL_pushfail(L);
  lua_pushstring(L, self->message);
  lua_pushstring(L, self->code);
  return 3;
}

static int report(lua_State *L, const struct parser *self, enum event event, size_t next) {
  if (event == EVENT_ERROR)
    return failure(L, self);
  lua_pushstring(L, event == EVENT_HEADERS ? "headers" : event == EVENT_END ? "end" : "more");
  lua_pushinteger(L, (lua_Integer)next);
  return 2;
}

/***
 * Parser:execute(data [, from]): reads bytes, up to something worth telling.
 * "more": all of them were read, and there has to be more; "headers": the head is complete, and
 * its parts can be asked for; "body": the third result is a piece of the body; "end": the message
 * is complete, and what follows is the next one.
 * @param data string
 * @param from? integer  the first byte to be read (1)
 * @return "more"|"headers"|"body"|"end"|nil
 * @return integer # the first byte that was not read; with nil: what is wrong
 * @return string # a piece of the body; with nil one word for it: "line" (the first line is too
 *   long), "headers" (too long or too many), "request", "status", "version", "header", "host",
 *   "length", "coding" (unknown), "chunk", "extensions" (too long), "closed" (data behind the
 *   last message). The parser is of no use then.
 */
static int l_execute(lua_State *L) {
  struct parser *self = check(L);
  size_t size;
  const char *data = luaL_checklstring(L, 2, &size);
  lua_Integer from = luaL_optinteger(L, 3, 1);
  luaL_argcheck(L, from >= 1 && (size_t)from <= size + 1, 3, "out of range");
  size_t at = (size_t)from - 1, used;
  struct pieces pieces = {.first = NULL};
  enum event event = EVENT_END;
  if (self->ended) {
    self->ended = false;
    return report(L, self, event, at + 1);
  }
  do {
    event = parser_advance(self, data + at, size - at, &used);
    at += used;
    if (self->body.length)
      add_piece(L, &pieces, self->body.data, self->body.length);
  } while (event == EVENT_CHUNK);
  if (!pieces.first)
    return report(L, self, event, at + 1);
  self->ended = event == EVENT_END;
  return body(L, &pieces, at + 1);
}

/***
 * Parser:finish(): tells it that the connection has ended.
 * @return "end"|"idle"|nil # "end": that was the end of the message; "idle": none was under way
 * @return string # with nil: what is wrong
 * @return string # one word for it: "eof"
 */
static int l_finish(lua_State *L) {
  struct parser *self = check(L);
  enum event event = parser_finish(self);
  if (event == EVENT_ERROR)
    return failure(L, self);
  lua_pushstring(L, event == EVENT_END ? "end" : "idle");
  return 1;
}

/***
 * Parser:skip_body(): the next message has no body, or the one whose head was just read: it
 * answers HEAD, or CONNECT.
 */
static int l_skip_body(lua_State *L) {
  parser_skip_body(check(L));
  return 0;
}

/***
 * Parser:reset(): forgets everything, for another connection.
 */
static int l_reset(lua_State *L) {
  struct parser *self = check(L);
  parser_reset(self);
  self->ended = false;
  return 0;
}

/* ---- what was read ---- */

static int push_span(lua_State *L, const struct parser *self, struct span span) {
  lua_pushlstring(L, self->head ? self->head + span.start : "", span.end - span.start);
  return 1;
}

/***
 * Parser:method(): "GET" or another, as it was sent: any word will do.
 * @return string
 */
static int l_method(lua_State *L) {
  const struct parser *self = check(L);
  return push_span(L, self, (struct span){0, self->method});
}

/***
 * Parser:target(): what the request is for, as it was sent.
 * @return string
 */
static int l_target(lua_State *L) {
  const struct parser *self = check(L);
  return push_span(L, self, self->target);
}

/***
 * Parser:version(): "1.1", "1.0" or, for a request without a version, "0.9".
 * @return string
 */
static int l_version(lua_State *L) {
  const llhttp_t *llhttp = &check(L)->llhttp;
  lua_pushfstring(L, "%d.%d", llhttp->http_major, llhttp->http_minor);
  return 1;
}

/***
 * Parser:status(): the number of a response.
 * @return integer
 */
static int l_status(lua_State *L) {
  lua_pushinteger(L, check(L)->llhttp.status_code);
  return 1;
}

/***
 * Parser:reason(): the words behind the number of a response.
 * @return string
 */
static int l_reason(lua_State *L) {
  const struct parser *self = check(L);
  return push_span(L, self, self->reason);
}

/***
 * Parser:line(): the first line, or so much of it as there is: for logs, after an error too.
 * @return string # without its end
 */
static int l_line(lua_State *L) {
  const struct parser *self = check(L);
  size_t length = self->head_length < self->limits.line ? self->head_length : self->limits.line;
  const char *lf = length ? memchr(self->head, '\n', length) : NULL;
  length = lf ? (size_t)(lf - self->head) : length;
  if (lf && length && self->head[length - 1] == '\r')
    length--;
  return push_span(L, self, (struct span){0, length});
}

/***
 * Parser:headers(): the header fields.
 * @return table # name, value, name, value ... in their order, and by name in lower case the
 *   values, those of a repeated name joined with ", " (of Cookie with "; "). Values of Set-Cookie
 *   cannot be told apart then: look through the list.
 */
static int l_headers(lua_State *L) {
  const struct parser *self = check(L);
  fields_push(L, self, 0, self->trailers);
  return 1;
}

/***
 * Parser:trailers(): the fields that came behind a chunked body, in the same form.
 * @return table
 */
static int l_trailers(lua_State *L) {
  const struct parser *self = check(L);
  fields_push(L, self, self->trailers, self->field_count);
  return 1;
}

static int push_request(lua_State *L, int index, struct parser *self) {
  cgi_push(L, index, self);
  lua_pushinteger(L, self->llhttp.http_minor);
  lua_pushboolean(L, self->keepalive);
  lua_pushboolean(L, self->upgrade);
  lua_pushinteger(L, self->chunked ? -1 : (lua_Integer)self->length);
  parser_end_bodiless(self);
  return 6;
}

/***
 * Parser:cgi(): the request as the variables of CGI.
 * REQUEST_METHOD, REQUEST_URI, PATH_INFO (its escapes decoded), QUERY_STRING, SERVER_PROTOCOL;
 * CONTENT_TYPE and CONTENT_LENGTH if they were sent; HTTP_NAME for other fields, those of a
 * repeated name joined with "," (of Cookie with "; "). Names with "_" are left out, which could
 * pass for others, and so is Proxy.  A request without a body is over with that: execute goes on
 * with the next one, and reports no "end".
 * @return table
 * @return string # the method
 * @return integer # the version: 1 for 1.1, 0 for 1.0, 9 for 0.9
 * @return boolean # whether another request may follow
 * @return boolean # whether another protocol is asked for
 * @return integer # the length of the body, 0 without one, -1 if it comes in chunks
 */
static int l_cgi(lua_State *L) {
  struct parser *self = check(L);
  luaL_argcheck(L, self->request && self->target.end && self->stage != STAGE_HEAD, 1,
                "has no request");
  return push_request(L, 1, self);
}

/***
 * Parser:keepalive(): whether another message may follow on the connection.
 * @return boolean
 */
static int l_keepalive(lua_State *L) {
  lua_pushboolean(L, check(L)->keepalive);
  return 1;
}

/***
 * Parser:upgrade(): whether the message asks for another protocol, or grants it.
 * @return boolean
 */
static int l_upgrade(lua_State *L) {
  lua_pushboolean(L, check(L)->upgrade);
  return 1;
}

/***
 * Parser:chunked(): whether the body comes in chunks.
 * @return boolean
 */
static int l_chunked(lua_State *L) {
  lua_pushboolean(L, check(L)->chunked);
  return 1;
}

/***
 * Parser:length(): the body's length, if Content-Length says it.
 * @return integer|nil
 */
static int l_length(lua_State *L) {
  const struct parser *self = check(L);
  if (self->has_length)
    lua_pushinteger(L, (lua_Integer)self->length);
  else
    lua_pushnil(L);
  return 1;
}

/* ---- for servers ---- */

static bool read_head(struct reader *reader, const char *data, size_t size, size_t *used) {
  struct parser *self = (struct parser *)reader;
  enum event event;
  size_t count;
  *used = 0;
  do {
    event = parser_advance(self, data + *used, size - *used, &count);
    *used += count;
  } while (event == EVENT_CHUNK);
  return event == EVENT_HEADERS;
}

static int push(lua_State *L, int index) {
  return push_request(L, index, lua_touserdata(L, index));
}

static bool leave(struct reader *reader) { return parser_leave((struct parser *)reader); }

static void reset(struct reader *reader) { parser_reset((struct parser *)reader); }

static const struct reader_kind reader_kind = {read_head, push, leave, reset};

/* ---- the class ---- */

static int l_tostring(lua_State *L) {
  static const char *const stages[] = {
      [STAGE_IDLE] = "between messages", [STAGE_METHOD] = "in a head",
      [STAGE_HEAD] = "in a head",        [STAGE_BODY] = "in a body",
      [STAGE_SIZE] = "in a body",        [STAGE_TRAILER] = "in trailers",
      [STAGE_CLOSED] = "at the end",     [STAGE_DEAD] = "dead"};
  const struct parser *self = check(L);
  lua_pushfstring(L, "Parser: %p (of %ss, %s)", (const void *)self,
                  self->request ? "request" : "response", stages[self->stage]);
  return 1;
}

static int l_gc(lua_State *L) {
  parser_free(check(L));
  return 0;
}

static const luaL_Reg methods[] = {{"execute", l_execute},
                                   {"finish", l_finish},
                                   {"skip_body", l_skip_body},
                                   {"reset", l_reset},
                                   {"method", l_method},
                                   {"target", l_target},
                                   {"version", l_version},
                                   {"status", l_status},
                                   {"reason", l_reason},
                                   {"line", l_line},
                                   {"headers", l_headers},
                                   {"trailers", l_trailers},
                                   {"cgi", l_cgi},
                                   {"keepalive", l_keepalive},
                                   {"upgrade", l_upgrade},
                                   {"chunked", l_chunked},
                                   {"length", l_length},
                                   {"__tostring", l_tostring},
                                   {"__gc", l_gc},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};

/***
 * @class moonlet.llhttp.Parser
 * Reads HTTP/1 messages, one after another, from bytes as they come.
 */
int luaopen_moonlet_llhttp_core(lua_State *L) {
  luaL_checkversion(L);
  luaL_newmetatable(L, KIND);
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  luaL_newlibtable(L, functions);
  cgi_push_words(L);
  luaL_setfuncs(L, functions, 1);
  return 1;
}
