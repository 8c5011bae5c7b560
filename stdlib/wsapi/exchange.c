/* exchange.c: see exchange.h. */
#define _GNU_SOURCE
#include "exchange.h"

#include <lauxlib.h>
#include <string.h>

#include "../llhttp/reader.h"
#include "head.h"

/* On the stack of `converse`. */
enum { SOCK = 1, HOST, PORT, FIRST, CONNECTION, READER, REST, REQUEST };

/* A request, as Parser:cgi returns it, and what the application has returned. */
enum { ENV = REQUEST, METHOD, MINOR, KEEPALIVE, UPGRADE, LENGTH, ANSWER };

/* Upvalues: the fields of conversation's table, and names. */
enum {
  UP_SERVER = 1,
  UP_APP,
  UP_META,
  UP_SPARE,
  UP_WATCHED,
  UP_REMOTE_ADDR,
  UP_REMOTE_PORT,
  UP_ENV,
  UP_STOPPING,
  UP_SILENT,
  UPVALUES = UP_SILENT
};

/* Beside a number of results, and WAIT_AGAIN. */
enum { SIMPLE = -2, GO_ON = -3 };

static void set(lua_State *L, int table, int name, int value) {
  lua_pushvalue(L, lua_upvalueindex(name));
  lua_pushvalue(L, value);
  lua_rawset(L, table);
}

/* ---- requests ---- */

/* How HTTP/2 begins, or so much of it as there is. */
static bool is_preface(const char *data, size_t size) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  return memcmp(data, preface, size < sizeof preface - 1 ? size : sizeof preface - 1) == 0;
}

static int push_bytes(lua_State *L, const char *data, size_t size) {
  lua_pushboolean(L, 0);
  lua_pushlstring(L, data, size);
  lua_pushvalue(L, FIRST);
  return 3;
}

/* Whether nothing of the request is to come, and it is like any other. */
static bool is_simple(lua_State *L, struct reader *reader, bool whole) {
  return whole && !lua_toboolean(L, UPGRADE) && !lua_toboolean(L, lua_upvalueindex(UP_WATCHED)) &&
         reader->kind->leave(reader);
}

static int push_request(lua_State *L, struct reader *reader, bool whole) {
  reader->kind->push(L, READER);
  set(L, ENV, UP_REMOTE_ADDR, HOST);
  set(L, ENV, UP_REMOTE_PORT, PORT);
  lua_pushvalue(L, lua_upvalueindex(UP_META));
  lua_setmetatable(L, ENV);
  if (is_simple(L, reader, whole))
    return SIMPLE;
  lua_pushboolean(L, 0);
  lua_rawseti(L, lua_upvalueindex(UP_SPARE), 1);
  lua_pushvalue(L, REST);
  lua_pushvalue(L, READER);
  return 8;
}

/* The bytes are in memory that others may use as soon as Lua runs. */
static int arrived(lua_State *L, const char *data, size_t size) {
  size_t used;
  lua_rawgeti(L, lua_upvalueindex(UP_SPARE), 1);
  struct reader *reader = lua_touserdata(L, READER);
  if (!reader || (lua_toboolean(L, FIRST) && is_preface(data, size)))
    return push_bytes(L, data, size);
  if (!reader->kind->read(reader, data, size, &used)) {
    reader->kind->reset(reader);
    return push_bytes(L, data, size);
  }
  if (used == size)
    lua_pushnil(L);
  else
    lua_pushlstring(L, data + used, size - used);
  return push_request(L, reader, used == size);
}

/* Whether the client was accepted a moment ago, in this turn, and nobody else has read from it. */
static bool is_fresh(const struct stream *self) {
  const struct greenlet *g = self->sock.hub->current;
  return self->sock.received == 0 && self->sock.fd >= 0 && g && !g->notified && !self->transport &&
         self->end == self->start;
}

/* Of clients in a row that were fresh: how many have sent nothing yet when they were accepted. */
static void count_silent(lua_State *L, lua_Integer count) {
  lua_pushinteger(L, count);
  lua_replace(L, lua_upvalueindex(UP_SILENT));
}

#define MANY_SILENT 8
#define PROBE 16

/* Where clients send late, to look for their requests at once is a system call for nothing; now and
   then it is tried. */
static bool expects_silence(lua_State *L, const struct stream *self) {
  lua_Integer silent = lua_tointeger(L, lua_upvalueindex(UP_SILENT));
  if (silent < MANY_SILENT || !is_fresh(self))
    return false;
  count_silent(L, silent + 1);
  return silent % PROBE != 0;
}

static void note_silence(lua_State *L, const struct stream *self, bool silent) {
  if (is_fresh(self))
    count_silent(L, silent ? lua_tointeger(L, lua_upvalueindex(UP_SILENT)) + 1 : 0);
}

/* What a method of the server's own that has read lines from the client, say, has left over. */
static int take_buffered(lua_State *L, struct stream *self) {
  const char *data = self->buffer + self->start;
  size_t size = self->end - self->start;
  self->sock.received += size;
  int results = arrived(L, data, size);
  stream_discard(self);
  return results;
}

static int read_request(lua_State *L, struct stream *self, bool timed_out) {
  if (unlikely(self->end > self->start))
    return take_buffered(L, self);
  if (sock_gone(&self->sock))
    return 0;
  if (stream_waits_first(self) && !timed_out)
    return sock_again(&self->sock, EV_READ, self->sock.read_due);
  char *data = io_scratch(L, self->sock.hub);
  ssize_t count = stream_read(self, data, IO_SCRATCH);
  if (likely(count > 0)) {
    note_silence(L, self, false);
    self->drained = stream_drains(self, (size_t)count, IO_SCRATCH);
    self->sock.received += (uint64_t)count;
    return arrived(L, data, (size_t)count);
  }
  if ((count == TRANSPORT_WANT_READ || count == TRANSPORT_WANT_WRITE) && !timed_out) {
    note_silence(L, self, true);
    return sock_again(&self->sock, stream_events(count), self->sock.read_due);
  }
  return 0;
}

/* ---- responses ---- */

/* How much of it goes out without waiting.  (A transport wants the same bytes again.)  `last`: if
   no request may follow, nothing else will be sent; the end then leaves in the packet of the last
   bytes, which the kernel holds back for it, and not in one of its own. */
static size_t send_some(struct stream *stream, const struct head *head, bool last) {
  if (!stream || stream->transport || stream->sock.fd < 0 || io_writing(stream->sock.ring))
    return 0;
  last = last && !head->keepalive && stream->sock.family != AF_UNIX;
  ssize_t count = stream_write(stream, head->text, head->size, last ? MSG_MORE : 0);
  if (count <= 0)
    return 0;
  if (last && (size_t)count == head->size)
    shutdown(stream->sock.fd, SHUT_WR);
  stream->sock.sent += (uint64_t)count;
  return (size_t)count;
}

int wsapi_respond(lua_State *L) {
  char room[HEAD_ROOM];
  struct head head = {.L = L,
                      .at = 1,
                      .minor = (int)lua_tointeger(L, 4),
                      .keepalive = lua_toboolean(L, 5),
                      .head_only = lua_toboolean(L, 6),
                      .text = room,
                      .capacity = sizeof room};
  struct stream *stream = lua_touserdata(L, 7);
  bool last = lua_toboolean(L, 8);
  lua_pushnil(L);
  lua_replace(L, 1 + HEAD_MEMORY);
  const char *follows = head_compose(&head);
  size_t sent = *follows == 'd' ? send_some(stream, &head, last) : 0;
  lua_pushboolean(L, head.keepalive);
  lua_pushinteger(L, head.status);
  lua_pushinteger(L, head.length);
  if (sent == head.size)
    return 3;
  lua_pushlstring(L, head.text + sent, head.size - sent);
  lua_pushstring(L, follows);
  return 5;
}

static bool is_stopping(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(UP_STOPPING));
  lua_rawget(L, lua_upvalueindex(UP_SERVER));
  bool stopping = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return stopping;
}

static int push_unsent(struct head *head, size_t sent, const char *follows) {
  lua_State *L = head->L;
  lua_pushlstring(L, head->text + sent, head->size - sent);
  lua_pushstring(L, follows);
  lua_pushinteger(L, head->length);
  lua_pushinteger(L, head->status);
  lua_pushboolean(L, head->keepalive);
  lua_pushvalue(L, ANSWER + HEAD_BODY);
  return 6;
}

/* A body that is no string is Lua's affair. */
static int push_answer(lua_State *L, bool keepalive) {
  lua_pushboolean(L, 1);
  lua_pushvalue(L, METHOD);
  lua_pushvalue(L, MINOR);
  lua_pushboolean(L, keepalive);
  for (int place = HEAD_STATUS; place <= HEAD_BODY; place++)
    lua_pushvalue(L, ANSWER + place);
  return 7;
}

static bool is_head(lua_State *L) {
  size_t length;
  const char *method = lua_tolstring(L, METHOD, &length);
  return length == 4 && memcmp(method, "HEAD", 4) == 0;
}

/* The application has returned. */
static int answer(lua_State *L) {
  char room[HEAD_ROOM];
  struct head head = {.L = L,
                      .at = ANSWER,
                      .minor = (int)lua_tointeger(L, MINOR),
                      .keepalive = lua_toboolean(L, KEEPALIVE) && !is_stopping(L),
                      .head_only = is_head(L),
                      .text = room,
                      .capacity = sizeof room};
  if (lua_type(L, ANSWER + HEAD_BODY) != LUA_TSTRING)
    return push_answer(L, head.keepalive);
  lua_pushnil(L);
  const char *follows = head_compose(&head);
  size_t sent = *follows == 'd' ? send_some(lua_touserdata(L, SOCK), &head, true) : 0;
  if (sent < head.size)
    return push_unsent(&head, sent, follows);
  lua_settop(L, CONNECTION);
  lua_pushboolean(L, 0);
  set(L, CONNECTION, UP_ENV, CONNECTION + 1);
  lua_settop(L, CONNECTION);
  return head.keepalive ? GO_ON : 0;
}

/* ---- one after the other ---- */

static int answered(lua_State *L, int status, lua_KContext ctx);

/* The application may wait, so that it goes on in `answered`, if it does not return here. */
static int serve(lua_State *L) {
  set(L, CONNECTION, UP_ENV, ENV);
  lua_pushvalue(L, lua_upvalueindex(UP_APP));
  lua_pushvalue(L, ENV);
  lua_callk(L, 1, 3, 0, answered);
  return answer(L);
}

/* What the application has waited for is no matter. */
static void begin_turn(lua_State *L, struct stream *self) {
  lua_pushboolean(L, 0);
  lua_replace(L, FIRST);
  if (likely(self->sock.hub->current != NULL))
    self->sock.hub->current->wait.revents = 0;
}

static int step(lua_State *L, bool timed_out);

static const struct wait_kind kind = {"an HTTP request", step, SOCK_READING};

/* Whether the time for a request is over that has been answered meanwhile. */
static bool is_late(const struct stream *self) {
  const struct greenlet *g = self->sock.hub->current;
  return g && g->timed_out;
}

static int begin(lua_State *L, struct stream *self) {
  lua_settop(L, CONNECTION);
  return sock_read(L, &self->sock, &kind);
}

/* A client that sends faster than it is served would keep all others from their turn. */
#define MAX_SERVED 64

static int turn_step(lua_State *L, bool timed_out) {
  (void)timed_out;
  return begin(L, lua_touserdata(L, SOCK));
}

static const struct wait_kind turn_kind = {.name = "an HTTP request", .step = turn_step};

static int step(lua_State *L, bool timed_out) {
  struct stream *self = lua_touserdata(L, SOCK);
  int served = 0, results;
  while ((results = read_request(L, self, timed_out)) == SIMPLE) {
    results = serve(L);
    if (results != GO_ON)
      return results;
    begin_turn(L, self);
    timed_out = false;
    if (unlikely(++served == MAX_SERVED))
      return wait_turn(L, &turn_kind);
  }
  if (unlikely(results == WAIT_AGAIN && served && is_late(self)))
    return sock_wait(L, &self->sock, EV_READ, self->sock.read_due, &kind);
  return results;
}

static int answered(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  struct stream *self = lua_touserdata(L, SOCK);
  int results = answer(L);
  if (results != GO_ON)
    return results;
  begin_turn(L, self);
  return begin(L, self);
}

static int l_converse(lua_State *L) {
  struct stream *self = stream_check(L);
  luaL_checkstack(L, ANSWER + HEAD_PLACES + LUA_MINSTACK, NULL);
  if (!expects_silence(L, self))
    return begin(L, self);
  lua_settop(L, CONNECTION);
  self->sock.read_due = sock_due(&self->sock);
  return sock_wait(L, &self->sock, EV_READ, self->sock.read_due, &kind);
}

int wsapi_conversation(lua_State *L) {
  static const char *const fields[] = {"server", "app", "meta", "spare", "watched"};
  luaL_checktype(L, 1, LUA_TTABLE);
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    lua_getfield(L, 1, fields[i]);
  lua_pushliteral(L, "REMOTE_ADDR");
  lua_pushliteral(L, "REMOTE_PORT");
  lua_pushliteral(L, "env");
  lua_pushliteral(L, "stopping");
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, l_converse, UPVALUES);
  return 1;
}
