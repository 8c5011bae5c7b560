/* events.c: what has happened in a session, for Lua (see session.h). */
#include <stdlib.h>

#include "session.h"

struct event *event_add(struct session *self, enum kind kind, int32_t stream) {
  if (self->event_count == self->event_capacity) {
    size_t capacity = self->event_capacity ? 2 * self->event_capacity : 8;
    struct event *events = realloc(self->events, capacity * sizeof *events);
    if (!events)
      return NULL;
    self->events = events;
    self->event_capacity = capacity;
  }
  struct event *event = &self->events[self->event_count++];
  *event = (struct event){.kind = kind, .stream = stream};
  return event;
}

void events_discard(struct session *self) {
  for (size_t i = 0; i < self->event_count; i++)
    block_free(&self->events[i].block);
  self->event_count = 0;
}

/* ---- as tables ---- */

static void set_boolean(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static void set_code(lua_State *L, uint32_t code) {
  lua_pushstring(L, nghttp2_http2_strerror(code));
  lua_setfield(L, -2, "code");
}

static void set_block(lua_State *L, const struct event *event) {
  const struct block *block = &event->block;
  if (event->kind != EVENT_TRAILERS)
    set_boolean(L, "ended", event->ended);
  if (event->kind == EVENT_RESPONSE || event->kind == EVENT_INFORMATIONAL)
    set_integer(L, "status", block_status(block));
  if (block->overlong) {
    set_boolean(L, "overlong", true);
  } else if (event->kind == EVENT_REQUEST) {
    block_push_head(L, block);
    lua_setfield(L, -2, "head");
  } else {
    block_push_fields(L, block);
    lua_setfield(L, -2, "fields");
  }
}

/* Nothing of the stream is under way any more: its piece (by its id) and trailers (by -id). */
static void release(lua_State *L, int table, lua_Integer id) {
  lua_pushnil(L);
  lua_rawseti(L, table, id);
  lua_pushnil(L);
  lua_rawseti(L, table, -id);
}

static void push_event(lua_State *L, const struct event *event, int table) {
  static const char *const kinds[] = {[EVENT_REQUEST] = "request",
                                      [EVENT_RESPONSE] = "response",
                                      [EVENT_INFORMATIONAL] = "informational",
                                      [EVENT_TRAILERS] = "trailers",
                                      [EVENT_DATA] = "data",
                                      [EVENT_END] = "end",
                                      [EVENT_DRAINED] = "drained",
                                      [EVENT_SENT] = "sent",
                                      [EVENT_CLOSE] = "close",
                                      [EVENT_SETTINGS] = "settings",
                                      [EVENT_ACKNOWLEDGED] = "acknowledged",
                                      [EVENT_PONG] = "pong",
                                      [EVENT_GOAWAY] = "goaway",
                                      [EVENT_FAILED] = "failed"};
  lua_createtable(L, 0, 4);
  lua_pushstring(L, kinds[event->kind]);
  lua_setfield(L, -2, "kind");
  if (event->stream || event->kind == EVENT_GOAWAY)
    set_integer(L, "stream", event->stream);
  switch (event->kind) {
  case EVENT_REQUEST:
  case EVENT_RESPONSE:
  case EVENT_INFORMATIONAL:
  case EVENT_TRAILERS:
    set_block(L, event);
    break;
  case EVENT_DATA:
    lua_pushlstring(L, (const char *)event->data, event->length);
    lua_setfield(L, -2, "data");
    break;
  case EVENT_DRAINED:
    release(L, table, event->stream);
    break;
  case EVENT_CLOSE:
    release(L, table, event->stream);
    set_code(L, event->code);
    set_integer(L, "left", (lua_Integer)event->length);
    break;
  case EVENT_PONG:
    lua_pushlstring(L, (const char *)event->pong, sizeof event->pong);
    lua_setfield(L, -2, "data");
    break;
  case EVENT_GOAWAY:
  case EVENT_FAILED:
    set_code(L, event->code);
    break;
  case EVENT_END:
  case EVENT_SENT:
  case EVENT_SETTINGS:
  case EVENT_ACKNOWLEDGED:
    break;
  }
}

void events_push(lua_State *L, struct session *self, int table) {
  lua_createtable(L, (int)self->event_count, 0);
  for (size_t i = 0; i < self->event_count; i++) {
    push_event(L, &self->events[i], table);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  events_discard(self);
}
