/*
 * session.h: the halves of moonlet.nghttp2.
 *
 * nghttp2 calls back while it reads or writes.  Nothing may be raised there, so callbacks do
 * not touch Lua: they note events, which become Lua tables once nghttp2 has returned.
 */
#ifndef MOONLET_NGHTTP2_SESSION_H
#define MOONLET_NGHTTP2_SESSION_H

#include <lauxlib.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- header fields that arrive ---- */

struct span {
  const uint8_t *at; /* while a block grows, meaningless: the bytes follow one another */
  size_t length;
};

/* A header block: the names and values one behind the other in `text`. */
struct block {
  char *text;
  size_t size, capacity;
  struct entry {
    size_t name, value; /* lengths */
  } * entries;
  size_t count, entry_capacity;
  size_t listed; /* its size as SETTINGS_MAX_HEADER_LIST_SIZE counts */
  bool overlong; /* fields are missing, since there were too many */
};

bool block_add(struct block *block, const uint8_t *name, size_t name_length, const uint8_t *value,
               size_t value_length, size_t limit);
void block_free(struct block *block);

/* The head of a request, as HTTP/1.1 would have it. */
void block_push_head(lua_State *L, const struct block *block);

/* Fields without the pseudo-headers: name, value, name, value ... and by name. */
void block_push_fields(lua_State *L, const struct block *block);

/* The number in :status, 0 if there is none. */
int block_status(const struct block *block);

/* ---- header fields that are to be sent ---- */

/* Fields in nghttp2's form, made of a head in HTTP/1's. */
struct fields {
  nghttp2_nv *list;
  size_t count;
  char *names; /* in lower case */
  int status;
};

/*
 * Each returns NULL, or what is wrong; then `fields` is empty.  `text` must outlive them.
 * Fields that speak of an HTTP/1 connection are left out.
 */
const char *fields_of_request(struct fields *fields, const char *text, size_t length,
                              const char *scheme);
const char *fields_of_response(struct fields *fields, const char *text, size_t length);
const char *fields_of_trailers(struct fields *fields, const char *text, size_t length);
void fields_free(struct fields *fields);

/* ---- events ---- */

enum kind {
  EVENT_REQUEST,
  EVENT_RESPONSE,
  EVENT_INFORMATIONAL,
  EVENT_TRAILERS,
  EVENT_DATA,
  EVENT_END,
  EVENT_DRAINED,
  EVENT_SENT,
  EVENT_CLOSE,
  EVENT_SETTINGS,
  EVENT_ACKNOWLEDGED,
  EVENT_PONG,
  EVENT_GOAWAY,
  EVENT_FAILED
};

struct event {
  enum kind kind;
  int32_t stream; /* of goaway: the last one that was seen */
  uint32_t code;
  bool ended;
  const uint8_t *data; /* in what is being read */
  size_t length;
  uint8_t pong[8];
  struct block block;
};

/* ---- sessions ---- */

/* What of a stream is to be sent: one piece of its body at a time. */
struct stream {
  struct stream *next, **link;
  int32_t id;
  const char *piece; /* NULL: nothing; the string is held by the session's table */
  size_t left;
  bool ended; /* the piece is the last one */
  const char *trailers;
  size_t trailers_length;
};

struct session {
  const char *mark;
  nghttp2_session *h2;
  bool server;
  bool in_head;       /* a header block has begun and is not complete */
  bool broken;        /* cannot go on */
  struct block block; /* the one that is being read */
  size_t header_limit;
  struct stream *streams;
  struct event *events;
  size_t event_count, event_capacity;
};

int session_init(struct session *self, const nghttp2_option *option);
struct stream *stream_new(struct session *self, int32_t id);
void stream_free(struct stream *stream);

/* The stream, or NULL if it is closed or was never there. */
struct stream *stream_of(struct session *self, int32_t id);

/* nghttp2 asks for the next bytes of a stream here. */
ssize_t stream_read(nghttp2_session *h2, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                    nghttp2_data_source *source, void *user);

/* A new event, to be filled; NULL when out of memory. */
struct event *event_add(struct session *self, enum kind kind, int32_t stream);

/* Forgets them. */
void events_discard(struct session *self);

/* Pushes all events as a list, and takes them.  `table` holds the pieces under way. */
void events_push(lua_State *L, struct session *self, int table);

#endif
