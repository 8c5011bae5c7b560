/*
 * core.c: require "moonlet.nghttp2.core", sessions of HTTP/2 as Lua objects.
 *
 * They never wait and know nothing of the hub: bytes go in, events come out; what is submitted
 * comes out as bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "session.h"

__attribute__((visibility("default"))) int luaopen_moonlet_nghttp2_core(lua_State *L);

#define KIND "moonlet.nghttp2.Session"

static const char mark = 0;

/* Argument 1; the address of the mark is in no other userdata. */
static struct session *check_any(lua_State *L) {
  struct session *self = lua_touserdata(L, 1);
  if (lua_type(L, 1) == LUA_TUSERDATA && lua_rawlen(L, 1) == sizeof *self && self->mark == &mark)
    return self;
  return luaL_checkudata(L, 1, KIND);
}

static struct session *check(lua_State *L) {
  struct session *self = check_any(L);
  luaL_argcheck(L, self->h2, 1, "closed");
  return self;
}

static int32_t check_id(lua_State *L, int arg) {
  lua_Integer id = luaL_checkinteger(L, arg);
  luaL_argcheck(L, id > 0 && id <= INT32_MAX, arg, "no stream's number");
  return (int32_t)id;
}

static int failure(lua_State *L, const char *message) {
  luaL_pushfail(L);
  lua_pushstring(L, message);
  return 2;
}

/* What a submission returned: a status of nghttp2's. */
static int outcome(lua_State *L, int status) {
  if (status == NGHTTP2_ERR_NOMEM)
    return luaL_error(L, "not enough memory");
  if (status != 0)
    return failure(L, "closed");
  lua_pushboolean(L, true);
  return 1;
}

/* ---- new ---- */

struct limits {
  lua_Integer streams, headers, window, resets;
};

static void limit(lua_State *L, const char *name, lua_Integer most, lua_Integer *value) {
  if (lua_getfield(L, 2, name) != LUA_TNIL) {
    int is_integer;
    lua_Integer given = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || given <= 0 || given > most)
      luaL_error(L, "bad argument #2 to 'new' (limit '%s' must be from 1 to %I)", name,
                 (LUAI_UACINT)most);
    *value = given;
  }
  lua_pop(L, 1);
}

/* Not in every nghttp2 that is around. */
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *option, uint64_t burst,
                                                uint64_t rate) __attribute__((weak));

static int make(struct session *self, const struct limits *limits) {
  nghttp2_option *option;
  int status = nghttp2_option_new(&option);
  if (status != 0)
    return status;
  nghttp2_option_set_no_auto_window_update(option, 1);
  if (nghttp2_option_set_stream_reset_rate_limit)
    nghttp2_option_set_stream_reset_rate_limit(option, (uint64_t)limits->resets,
                                               (uint64_t)limits->resets / 30 + 1);
  status = session_init(self, option);
  nghttp2_option_del(option);
  return status;
}

/* The connection's window holds as much as a stream's, and never stops one: see on_data. */
static int open(struct session *self, const struct limits *limits) {
  int status = make(self, limits);
  if (status != 0)
    return status;
  const nghttp2_settings_entry entries[] = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)limits->window},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)limits->headers},
      self->server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                              (uint32_t)limits->streams}
                   : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
  status = nghttp2_submit_settings(self->h2, NGHTTP2_FLAG_NONE, entries,
                                   sizeof entries / sizeof *entries);
  int32_t window = limits->window < 1 << 20 ? 1 << 20 : (int32_t)limits->window;
  return status != 0
             ? status
             : nghttp2_session_set_local_window_size(self->h2, NGHTTP2_FLAG_NONE, 0, window);
}

/***
 * nghttp2.new(role [, limits]): one end of a connection.
 * @param role "server"|"client"
 * @param limits? table  `streams`: most requests at once that a client may send (100);
 *   `header_bytes`: most bytes of the fields of a head, each counted with 32 more (65536);
 *   `window`: most bytes of a body that may come before they are consumed (262144); `resets`: most
 *   streams that a client may reset in one go (1000), and a thirtieth of them a second after that
 * @return moonlet.nghttp2.Session
 */
static int l_new(lua_State *L) {
  static const char *const roles[] = {"server", "client", NULL};
  struct limits limits = {100, 65536, 262144, 1000};
  int role = luaL_checkoption(L, 1, NULL, roles);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    limit(L, "streams", INT32_MAX, &limits.streams);
    limit(L, "header_bytes", INT32_MAX, &limits.headers);
    limit(L, "window", INT32_MAX, &limits.window);
    limit(L, "resets", INT32_MAX, &limits.resets);
  }
  struct session *self = lua_newuserdatauv(L, sizeof *self, 1);
  *self = (struct session){.mark = &mark, .server = role == 0};
  self->header_limit = (size_t)limits.headers;
  luaL_setmetatable(L, KIND);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  if (open(self, &limits) != 0)
    return luaL_error(L, "not enough memory");
  return 1;
}

/* ---- bytes ---- */

/***
 * Session:feed(data): reads bytes that have arrived.
 * @param data string
 * @return table|nil # a list of events, perhaps empty; nil: nothing can follow
 * @return string # with nil: what is wrong. What is to be sent, may be.
 */
static int l_feed(lua_State *L) {
  struct session *self = check(L);
  size_t length;
  const char *data = luaL_checklstring(L, 2, &length);
  lua_settop(L, 2);
  lua_getiuservalue(L, 1, 1);
  events_discard(self);
  if (self->broken)
    return failure(L, "closed");
  ssize_t used = nghttp2_session_mem_recv(self->h2, (const uint8_t *)data, length);
  if (used < 0) {
    self->broken = true;
    return failure(L, nghttp2_strerror((int)used));
  }
  events_push(L, self, 3);
  return 1;
}

/***
 * Session:pull([most]): what is to be sent next.
 * @param most? integer  no further frame is begun behind so many bytes (65536)
 * @return string|nil # nil: nothing
 * @return table|nil # events, if that has caused some: "drained", "close", "failed"
 */
static int l_pull(lua_State *L) {
  struct session *self = check(L);
  lua_Integer most = luaL_optinteger(L, 2, 65536);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  events_discard(self);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  const uint8_t *frame;
  ssize_t length = 0;
  bool broken = self->broken;
  self->broken = true; /* it is, if a frame is lost for want of memory */
  do {
    length = nghttp2_session_mem_send(self->h2, &frame);
    if (length > 0)
      luaL_addlstring(&buffer, (const char *)frame, (size_t)length);
  } while (length > 0 && (lua_Integer)luaL_bufflen(&buffer) < most);
  self->broken = broken || length < 0;
  bool nothing = luaL_bufflen(&buffer) == 0;
  luaL_pushresult(&buffer);
  if (nothing) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  if (self->event_count == 0)
    return 1;
  events_push(L, self, 2);
  return 2;
}

/* ---- heads ---- */

static const nghttp2_data_provider *provide(nghttp2_data_provider *provider, struct stream *stream,
                                            bool more) {
  *provider = (nghttp2_data_provider){.source.ptr = stream, .read_callback = stream_read};
  return more ? provider : NULL;
}

/***
 * Session:request(head [, more [, scheme]]): a client's request.
 * Beyond what the server allows at once, requests wait in the session for their turn.
 * @param head string  as HTTP/1.1 has it: "GET /path HTTP/1.1\r\nHost: name\r\n...\r\n"; Host
 *   becomes the authority, and fields of an HTTP/1 connection are left out
 * @param more? boolean  whether a body follows
 * @param scheme? string  "https"
 * @return integer|nil # the number of its stream; nil: the connection takes no more requests
 * @return string # with nil: "closed"
 * @raise an error if that is no head
 */
static int l_request(lua_State *L) {
  struct session *self = check(L);
  size_t length;
  const char *head = luaL_checklstring(L, 2, &length);
  const char *scheme = luaL_optstring(L, 4, "https");
  luaL_argcheck(L, !self->server, 1, "of a server");
  struct fields fields;
  const char *problem = fields_of_request(&fields, head, length, scheme);
  luaL_argcheck(L, !problem, 2, problem);
  struct stream *stream = stream_new(self, 0);
  nghttp2_data_provider provider;
  int32_t id = NGHTTP2_ERR_NOMEM;
  if (stream)
    id = nghttp2_submit_request(self->h2, NULL, fields.list, fields.count,
                                provide(&provider, stream, lua_toboolean(L, 3)), stream);
  fields_free(&fields);
  if (id <= 0) {
    if (stream)
      stream_free(stream);
    return outcome(L, id);
  }
  stream->id = id;
  lua_pushinteger(L, id);
  return 1;
}

static int submit_response(struct session *self, struct stream *stream, const struct fields *fields,
                           bool more) {
  nghttp2_data_provider provider;
  if (fields->status < 200)
    return nghttp2_submit_headers(self->h2, NGHTTP2_FLAG_NONE, stream->id, NULL, fields->list,
                                  fields->count, NULL);
  return nghttp2_submit_response(self->h2, stream->id, fields->list, fields->count,
                                 provide(&provider, stream, more));
}

/***
 * Session:respond(stream, head [, more]): a server's response, or one of those below 200 that may
 * come before it.
 * Behind a response to a request that has not come to its end, whose rest is not wanted, a reset
 * with NO_ERROR may follow, once it is sent.
 * @param stream integer
 * @param head string  as HTTP/1.1 has it: "HTTP/1.1 200 OK\r\n...\r\n"; fields of an HTTP/1
 *   connection are left out, and so is what follows the empty line
 * @param more? boolean  whether a body follows
 * @return boolean|nil # true, or nil: the stream is closed
 * @return string # with nil: "closed"
 * @raise an error if that is no head
 */
static int l_respond(lua_State *L) {
  struct session *self = check(L);
  struct stream *stream = stream_of(self, check_id(L, 2));
  size_t length;
  const char *head = luaL_checklstring(L, 3, &length);
  luaL_argcheck(L, self->server, 1, "of a client");
  struct fields fields;
  const char *problem = fields_of_response(&fields, head, length);
  luaL_argcheck(L, !problem, 3, problem);
  int status = NGHTTP2_ERR_STREAM_CLOSED;
  if (stream)
    status = submit_response(self, stream, &fields, lua_toboolean(L, 4));
  fields_free(&fields);
  return outcome(L, status);
}

/* ---- bodies ---- */

static void check_trailers(lua_State *L, const char *text, size_t length) {
  struct fields fields;
  const char *problem = fields_of_trailers(&fields, text, length);
  luaL_argcheck(L, !problem, 5, problem);
  fields_free(&fields);
}

/***
 * Session:data(stream, piece [, ended [, trailers]]): the next piece of a body, behind a head that
 * was submitted with `more`.
 * It is sent as the other end opens its windows; the event "drained" says that it is, and the
 * next one can be given. There is one at a time.
 * @param stream integer
 * @param piece string
 * @param ended? boolean  that is the last one
 * @param trailers? string  fields behind the last one, as HTTP/1.1 has them: "Name: value\r\n..."
 * @return boolean|nil # true, or nil: the stream is closed
 * @return string # with nil: "closed"
 * @raise an error if a piece is under way
 */
static int l_data(lua_State *L) {
  struct session *self = check(L);
  int32_t id = check_id(L, 2);
  size_t length, trailers_length = 0;
  const char *piece = luaL_checklstring(L, 3, &length);
  const char *trailers = luaL_optlstring(L, 5, NULL, &trailers_length);
  lua_settop(L, 5);
  if (trailers)
    check_trailers(L, trailers, trailers_length);
  struct stream *stream = stream_of(self, id);
  if (!stream)
    return failure(L, "closed");
  luaL_argcheck(L, !stream->piece && !stream->ended, 2, "a piece is under way");
  lua_getiuservalue(L, 1, 1);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, id);
  lua_pushvalue(L, 5);
  lua_rawseti(L, -2, -(lua_Integer)id);
  stream->piece = piece;
  stream->left = length;
  stream->ended = lua_toboolean(L, 4) || trailers;
  stream->trailers = trailers;
  stream->trailers_length = trailers_length;
  nghttp2_session_resume_data(self->h2, id);
  lua_pushboolean(L, true);
  return 1;
}

/***
 * Session:left(stream): how many bytes of the piece under way were not sent yet.
 * @param stream integer
 * @return integer # 0 if there is none
 */
static int l_left(lua_State *L) {
  struct session *self = check(L);
  const struct stream *stream = stream_of(self, check_id(L, 2));
  lua_pushinteger(L, stream && stream->piece ? (lua_Integer)stream->left : 0);
  return 1;
}

/***
 * Session:window(stream): how many bytes the other end would take of the stream now.
 * @param stream integer
 * @return integer
 */
static int l_window(lua_State *L) {
  struct session *self = check(L);
  int32_t id = check_id(L, 2);
  int32_t stream = nghttp2_session_get_stream_remote_window_size(self->h2, id);
  int32_t all = nghttp2_session_get_remote_window_size(self->h2);
  int32_t least = stream < all ? stream : all;
  lua_pushinteger(L, least > 0 ? least : 0);
  return 1;
}

/***
 * Session:consume(stream, count): so many bytes of the body that has come are done with, and as
 * many more may come.
 * Bytes that are not consumed fill the stream's window, and the other end waits. (The window of
 * the connection is no limit: it is opened again at once.)
 * @param stream integer
 * @param count integer
 */
static int l_consume(lua_State *L) {
  struct session *self = check(L);
  int32_t id = check_id(L, 2);
  lua_Integer count = luaL_checkinteger(L, 3);
  luaL_argcheck(L, count >= 0, 3, "negative");
  if (nghttp2_session_consume_stream(self->h2, id, (size_t)count) == NGHTTP2_ERR_NOMEM)
    return luaL_error(L, "not enough memory");
  return 0;
}

/* ---- ends ---- */

/* In the order of their numbers. */
static const char *const codes[] = {"NO_ERROR",
                                    "PROTOCOL_ERROR",
                                    "INTERNAL_ERROR",
                                    "FLOW_CONTROL_ERROR",
                                    "SETTINGS_TIMEOUT",
                                    "STREAM_CLOSED",
                                    "FRAME_SIZE_ERROR",
                                    "REFUSED_STREAM",
                                    "CANCEL",
                                    "COMPRESSION_ERROR",
                                    "CONNECT_ERROR",
                                    "ENHANCE_YOUR_CALM",
                                    "INADEQUATE_SECURITY",
                                    "HTTP_1_1_REQUIRED",
                                    NULL};

/***
 * Session:reset(stream [, code]): ends a stream at once; its event "close" follows.
 * @param stream integer
 * @param code? string  RFC 9113's name of an error ("CANCEL")
 */
static int l_reset(lua_State *L) {
  struct session *self = check(L);
  int32_t id = check_id(L, 2);
  uint32_t code = (uint32_t)luaL_checkoption(L, 3, "CANCEL", codes);
  if (nghttp2_submit_rst_stream(self->h2, NGHTTP2_FLAG_NONE, id, code) == NGHTTP2_ERR_NOMEM)
    return luaL_error(L, "not enough memory");
  return 0;
}

/***
 * Session:goaway([code]): tells the other end that no further streams are taken.
 * Those that are there come to their ends with "NO_ERROR"; another code ends all.
 * @param code? string  RFC 9113's name of an error ("NO_ERROR")
 */
static int l_goaway(lua_State *L) {
  struct session *self = check(L);
  uint32_t code = (uint32_t)luaL_checkoption(L, 2, "NO_ERROR", codes);
  int32_t last = nghttp2_session_get_last_proc_stream_id(self->h2);
  int status = code == NGHTTP2_NO_ERROR
                   ? nghttp2_submit_goaway(self->h2, NGHTTP2_FLAG_NONE, last, code, NULL, 0)
                   : nghttp2_session_terminate_session(self->h2, code);
  return status == NGHTTP2_ERR_NOMEM ? luaL_error(L, "not enough memory") : 0;
}

/***
 * Session:ping([data]): asks for an answer, which is the event "pong".
 * @param data? string  eight bytes, which come back
 */
static int l_ping(lua_State *L) {
  struct session *self = check(L);
  size_t length;
  const char *data = luaL_optlstring(L, 2, "\0\0\0\0\0\0\0\0", &length);
  luaL_argcheck(L, lua_isnoneornil(L, 2) || length == 8, 2, "eight bytes expected");
  if (nghttp2_submit_ping(self->h2, NGHTTP2_FLAG_NONE, (const uint8_t *)data) != 0)
    return luaL_error(L, "not enough memory");
  return 0;
}

/***
 * Session:close(): frees its memory; a second call does nothing.
 */
static int l_close(lua_State *L) {
  struct session *self = check_any(L);
  nghttp2_session_del(self->h2);
  self->h2 = NULL;
  while (self->streams)
    stream_free(self->streams);
  events_discard(self);
  free(self->events);
  self->events = NULL;
  self->event_capacity = 0;
  block_free(&self->block);
  return 0;
}

/* ---- its state ---- */

/***
 * Session:want_read(): whether anything that arrives is of use. When neither this nor want_write
 * is, the connection is to be closed.
 * @return boolean
 */
static int l_want_read(lua_State *L) {
  struct session *self = check(L);
  lua_pushboolean(L, !self->broken && nghttp2_session_want_read(self->h2));
  return 1;
}

/***
 * Session:want_write(): whether pull has something now.
 * @return boolean
 */
static int l_want_write(lua_State *L) {
  lua_pushboolean(L, nghttp2_session_want_write(check(L)->h2));
  return 1;
}

/***
 * Session:in_head(): whether a head has begun to arrive and is not complete.
 * @return boolean
 */
static int l_in_head(lua_State *L) {
  lua_pushboolean(L, check(L)->in_head);
  return 1;
}

/***
 * Session:allowed(): how many streams the other end allows at once.
 * @return integer
 */
static int l_allowed(lua_State *L) {
  lua_pushinteger(L, nghttp2_session_get_remote_settings(check(L)->h2,
                                                         NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS));
  return 1;
}

static int l_tostring(lua_State *L) {
  const struct session *self = check_any(L);
  int count = 0;
  for (const struct stream *stream = self->streams; stream; stream = stream->next)
    count++;
  lua_pushfstring(L, "Session: %p (of a %s, ", (const void *)self,
                  self->server ? "server" : "client");
  if (!self->h2)
    lua_pushliteral(L, "closed)");
  else if (self->broken)
    lua_pushliteral(L, "broken)");
  else
    lua_pushfstring(L, "%d streams)", count);
  lua_concat(L, 2);
  return 1;
}

static const luaL_Reg methods[] = {{"feed", l_feed},           {"pull", l_pull},
                                   {"request", l_request},     {"respond", l_respond},
                                   {"data", l_data},           {"left", l_left},
                                   {"window", l_window},       {"consume", l_consume},
                                   {"reset", l_reset},         {"goaway", l_goaway},
                                   {"ping", l_ping},           {"close", l_close},
                                   {"want_read", l_want_read}, {"want_write", l_want_write},
                                   {"in_head", l_in_head},     {"allowed", l_allowed},
                                   {"__tostring", l_tostring}, {"__close", l_close},
                                   {"__gc", l_close},          {NULL, NULL}};

static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};

/***
 * @class moonlet.nghttp2.Session
 * One end of an HTTP/2 connection.
 */
int luaopen_moonlet_nghttp2_core(lua_State *L) {
  luaL_checkversion(L);
  luaL_newmetatable(L, KIND);
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  luaL_newlib(L, functions);
  return 1;
}
