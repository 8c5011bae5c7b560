/* session.c: what nghttp2 calls (see session.h). */
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* ---- streams ---- */

struct stream *stream_new(struct session *self, int32_t id) {
  struct stream *stream = calloc(1, sizeof *stream);
  if (!stream)
    return NULL;
  stream->id = id;
  stream->link = &self->streams;
  stream->next = self->streams;
  if (stream->next)
    stream->next->link = &stream->next;
  self->streams = stream;
  return stream;
}

void stream_free(struct stream *stream) {
  *stream->link = stream->next;
  if (stream->next)
    stream->next->link = stream->link;
  free(stream);
}

/* A request that waits for its turn is not known to nghttp2 as a stream. */
struct stream *stream_of(struct session *self, int32_t id) {
  struct stream *stream = nghttp2_session_get_stream_user_data(self->h2, id);
  if (!stream && !self->server)
    for (stream = self->streams; stream && stream->id != id;)
      stream = stream->next;
  return stream;
}

/* ---- header blocks ---- */

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  struct session *self = user;
  self->in_head = true;
  block_free(&self->block);
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  struct stream *stream = stream_new(self, frame->hd.stream_id);
  if (!stream || nghttp2_session_set_stream_user_data(h2, frame->hd.stream_id, stream) != 0)
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *user) {
  struct session *self = user;
  (void)h2;
  (void)frame;
  (void)flags;
  bool ok = block_add(&self->block, name, name_length, value, value_length, self->header_limit);
  return ok ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static enum kind kind_of_head(const struct session *self, const nghttp2_frame *frame) {
  if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
    return EVENT_REQUEST;
  int status = self->server ? 0 : block_status(&self->block);
  if (status == 0)
    return EVENT_TRAILERS;
  return status < 200 ? EVENT_INFORMATIONAL : EVENT_RESPONSE;
}

static int on_head(struct session *self, const nghttp2_frame *frame) {
  struct event *event = event_add(self, kind_of_head(self, frame), frame->hd.stream_id);
  self->in_head = false;
  if (!event)
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  event->ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
  event->block = self->block;
  self->block = (struct block){.text = NULL};
  return 0;
}

/* ---- frames ---- */

static int note(struct session *self, enum kind kind, int32_t stream) {
  return event_add(self, kind, stream) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int note_code(struct session *self, enum kind kind, int32_t stream, uint32_t code) {
  struct event *event = event_add(self, kind, stream);
  if (event)
    event->code = code;
  return event ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_ping(struct session *self, const nghttp2_frame *frame) {
  if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
    return 0;
  struct event *event = event_add(self, EVENT_PONG, 0);
  if (event)
    memcpy(event->pong, frame->ping.opaque_data, sizeof event->pong);
  return event ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  struct session *self = user;
  int status = 0;
  (void)h2;
  switch (frame->hd.type) {
  case NGHTTP2_HEADERS:
    status = on_head(self, frame);
    break;
  case NGHTTP2_SETTINGS:
    return note(self, frame->hd.flags & NGHTTP2_FLAG_ACK ? EVENT_ACKNOWLEDGED : EVENT_SETTINGS, 0);
  case NGHTTP2_PING:
    return on_ping(self, frame);
  case NGHTTP2_GOAWAY:
    return note_code(self, EVENT_GOAWAY, frame->goaway.last_stream_id, frame->goaway.error_code);
  case NGHTTP2_DATA:
    break;
  default:
    return 0;
  }
  if (!status && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
    status = note(self, EVENT_END, frame->hd.stream_id);
  return status;
}

/* The connection's window is opened again at once: a stream that nobody reads stops no other. */
static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t length, void *user) {
  (void)flags;
  struct event *event = event_add(user, EVENT_DATA, id);
  if (!event || nghttp2_session_consume_connection(h2, length) != 0)
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  event->data = data;
  event->length = length;
  return 0;
}

static int note_end(struct session *self, struct stream *stream, uint32_t code) {
  struct event *event = event_add(self, EVENT_CLOSE, stream->id);
  if (!event)
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  event->code = code;
  event->length = stream->piece ? stream->left : 0;
  stream_free(stream);
  return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user) {
  struct session *self = user;
  struct stream *stream = nghttp2_session_get_stream_user_data(h2, id);
  return stream ? note_end(self, stream, code) : 0;
}

/* ---- frames that are sent ---- */

static int on_sent(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  struct session *self = user;
  if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
    return note_code(self, EVENT_FAILED, 0, frame->goaway.error_code);
  if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
      frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
      nghttp2_session_get_stream_remote_close(h2, frame->hd.stream_id) == 0)
    return note(self, EVENT_SENT, frame->hd.stream_id);
  return 0;
}

/* A request that could not be sent never becomes a stream. */
static int on_not_sent(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user) {
  struct session *self = user;
  (void)error;
  if (self->server || frame->hd.type != NGHTTP2_HEADERS ||
      frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  int32_t id = frame->hd.stream_id;
  struct stream *stream = stream_of(self, id);
  if (!stream)
    return 0;
  nghttp2_session_set_stream_user_data(h2, id, NULL);
  return note_end(self, stream, NGHTTP2_REFUSED_STREAM);
}

/* ---- data that is sent ---- */

static int send_trailers(nghttp2_session *h2, const struct stream *stream) {
  struct fields fields;
  if (fields_of_trailers(&fields, stream->trailers, stream->trailers_length))
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  int status = nghttp2_submit_trailer(h2, stream->id, fields.list, fields.count);
  fields_free(&fields);
  return status;
}

ssize_t stream_read(nghttp2_session *h2, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                    nghttp2_data_source *source, void *user) {
  struct stream *stream = source->ptr;
  if (!stream->piece)
    return NGHTTP2_ERR_DEFERRED;
  size_t length = stream->left < room ? stream->left : room;
  memcpy(to, stream->piece, length);
  stream->piece += length;
  stream->left -= length;
  if (stream->left > 0)
    return (ssize_t)length;
  stream->piece = NULL;
  if (stream->ended)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (stream->trailers) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (send_trailers(h2, stream) != 0)
      return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  if (note(user, EVENT_DRAINED, id) != 0)
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  return (ssize_t)length;
}

/* ---- the session ---- */

int session_init(struct session *self, const nghttp2_option *option) {
  nghttp2_session_callbacks *calls;
  int status = nghttp2_session_callbacks_new(&calls);
  if (status != 0)
    return status;
  nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(calls, on_not_sent);
  status = self->server ? nghttp2_session_server_new2(&self->h2, calls, self, option)
                        : nghttp2_session_client_new2(&self->h2, calls, self, option);
  nghttp2_session_callbacks_del(calls);
  return status;
}
