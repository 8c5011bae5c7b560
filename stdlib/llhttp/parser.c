/* parser.c: see parser.h. */
#include "parser.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST_METHOD 32

enum event parser_fail(struct parser *self, const char *code, const char *message) {
  self->stage = STAGE_DEAD;
  self->code = code;
  self->message = message;
  return EVENT_ERROR;
}

/* ---- what llhttp calls ---- */

static struct span place(const struct parser *self, const char *at, size_t length) {
  size_t start = self->head_length + (size_t)(at - self->input);
  return (struct span){start, start + length};
}

/* A part may come in pieces. */
static void extend(struct span *span, struct span piece) {
  if (!span->end)
    span->start = piece.start;
  span->end = piece.end;
}

static int on_target(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  extend(&self->target, place(self, at, length));
  return 0;
}

static int on_reason(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  extend(&self->reason, place(self, at, length));
  return 0;
}

static int overlong(struct parser *self) {
  self->overlong = true;
  return HPE_USER;
}

static struct field *add_field(struct parser *self) {
  if (self->field_count == self->limits.header_count)
    return NULL;
  if (self->field_count == self->field_capacity) {
    size_t capacity = self->field_capacity ? 2 * self->field_capacity : 16;
    struct field *fields = realloc(self->fields, capacity * sizeof *fields);
    if (!fields)
      return NULL;
    self->fields = fields;
    self->field_capacity = capacity;
  }
  struct field *field = &self->fields[self->field_count++];
  *field = (struct field){{0, 0}, {0, 0}};
  return field;
}

static int on_name(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  if (!self->in_field && !add_field(self))
    return overlong(self);
  self->in_field = true;
  extend(&self->fields[self->field_count - 1].name, place(self, at, length));
  return 0;
}

static int on_name_complete(llhttp_t *llhttp) {
  const struct parser *self = llhttp->data;
  const struct field *field = &self->fields[self->field_count - 1];
  return self->in_field && field->name.end > field->name.start ? 0 : -1;
}

static int on_value(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  self->in_field = false;
  extend(&self->fields[self->field_count - 1].value, place(self, at, length));
  return 0;
}

static int on_extension(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  (void)at;
  self->extensions += length;
  return self->extensions > self->limits.extension_bytes ? overlong(self) : 0;
}

static int on_headers_complete(llhttp_t *llhttp) {
  struct parser *self = llhttp->data;
  self->at |= AT_HEADERS;
  return HPE_PAUSED;
}

/* After the first line of a chunk, and after its last byte. */
static int on_chunk(llhttp_t *llhttp) {
  struct parser *self = llhttp->data;
  self->at |= AT_CHUNK;
  return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *llhttp) {
  struct parser *self = llhttp->data;
  self->at |= AT_END;
  return HPE_PAUSED;
}

/* One call of llhttp_execute finds one piece at most: it is stopped between two. */
static int on_body(llhttp_t *llhttp, const char *at, size_t length) {
  struct parser *self = llhttp->data;
  self->body.data = at;
  self->body.length = length;
  return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_target,
    .on_status = on_reason,
    .on_header_field = on_name,
    .on_header_field_complete = on_name_complete,
    .on_header_value = on_value,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk,
    .on_chunk_complete = on_chunk,
    .on_message_complete = on_message_complete,
    .on_body = on_body,
};

/* ---- life ---- */

void parser_init(struct parser *self, bool request, const struct limits *limits) {
  *self = (struct parser){.request = request, .limits = *limits};
  llhttp_init(&self->llhttp, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
  self->llhttp.data = self;
}

/* A head longer than usual does not leave its memory to the next. */
#define KEPT_HEAD 8192

/* Forgets the message. */
static void clear(struct parser *self) {
  if (self->head_capacity > KEPT_HEAD) {
    free(self->head);
    self->head = NULL;
    self->head_capacity = 0;
  }
  llhttp_reset(&self->llhttp);
  self->at = 0;
  self->keepalive = self->upgrade = self->chunked = self->has_length = self->until_close = false;
  self->in_field = self->overlong = false;
  self->length = 0;
  self->extensions = self->size = 0;
  self->head_length = self->line = self->scanned = self->method = 0;
  self->target = self->reason = (struct span){0, 0};
  self->field_count = self->trailers = 0;
}

void parser_reset(struct parser *self) {
  clear(self);
  self->skip_body = false;
  self->stage = STAGE_IDLE;
}

bool parser_leave(struct parser *self) {
  if (self->stage == STAGE_CLOSED)
    self->stage = STAGE_IDLE;
  return self->stage == STAGE_IDLE;
}

void parser_free(struct parser *self) {
  free(self->head);
  free(self->fields);
  self->head = NULL;
  self->fields = NULL;
  self->head_capacity = self->field_capacity = 0;
}

/* ---- the head ---- */

static bool keep(struct parser *self, const char *data, size_t size) {
  size_t length = self->head_length + size;
  if (!size)
    return true;
  if (length > self->head_capacity) {
    size_t capacity = length < 512 ? 512 : 2 * length;
    char *head = realloc(self->head, capacity);
    if (!head) {
      parser_fail(self, "memory", "not enough memory");
      return false;
    }
    self->head = head;
    self->head_capacity = capacity;
  }
  memcpy(self->head + self->head_length, data, size);
  self->head_length = length;
  return true;
}

/*
 * llhttp knows a list of methods only.  It is told of a method like any other in place of the
 * word that is there, which changes nothing for the rest of the message; CONNECT does.
 */
static void tell_method(struct parser *self) {
  bool connect = self->method == 7 && memcmp(self->head, "CONNECT", 7) == 0;
  if (connect)
    llhttp_execute(&self->llhttp, "CONNECT", 7);
  else
    llhttp_execute(&self->llhttp, "PUT", 3);
}

/* Reads the first word of a request, up to the space behind it. */
static enum event read_method(struct parser *self, const char *data, size_t size, size_t *used) {
  size_t i = 0;
  while (i < size && (characters[(unsigned char)data[i]] & IN_TOKEN))
    i++;
  *used = i;
  if (!keep(self, data, i))
    return EVENT_ERROR;
  if (self->head_length > LONGEST_METHOD || (i < size && (data[i] != ' ' || !self->head_length))) {
    keep(self, data + i, size - i);
    return parser_fail(self, "request", "bad method");
  }
  if (i == size)
    return EVENT_MORE;
  self->method = self->head_length;
  self->stage = STAGE_HEAD;
  tell_method(self);
  return EVENT_CHUNK;
}

static enum event begin(struct parser *self) {
  clear(self);
  self->stage = self->request ? STAGE_METHOD : STAGE_HEAD;
  return EVENT_CHUNK;
}

/* ---- llhttp's errors ---- */

static enum event fail_as_llhttp(struct parser *self, enum llhttp_errno error) {
  const char *reason = llhttp_get_error_reason(&self->llhttp);
  const char *code = self->stage == STAGE_HEAD ? "header" : "chunk";
  switch (error) {
  case HPE_INVALID_METHOD:
  case HPE_INVALID_URL:
  case HPE_INVALID_CONSTANT:
  case HPE_INVALID_STATUS:
    code = self->request ? "request" : "status";
    break;
  case HPE_INVALID_VERSION:
    code = "version";
    break;
  case HPE_INVALID_CONTENT_LENGTH:
  case HPE_UNEXPECTED_CONTENT_LENGTH:
    code = "length";
    break;
  case HPE_INVALID_TRANSFER_ENCODING:
    code = "coding";
    break;
  case HPE_CB_HEADER_FIELD_COMPLETE:
    reason = "a header field without a name";
    break;
  default:
    break;
  }
  return parser_fail(self, code, reason && *reason ? reason : "parse error");
}

static enum event fail_overlong(struct parser *self) {
  if (self->stage == STAGE_SIZE)
    return parser_fail(self, "extensions", "too many chunk extensions");
  return parser_fail(self, "headers", "too many header fields");
}

/* ---- going on ---- */

/* Lets llhttp read; the number of bytes it has eaten. */
static size_t feed(struct parser *self, const char *data, size_t size, enum llhttp_errno *error) {
  self->input = data;
  llhttp_resume(&self->llhttp);
  *error = llhttp_execute(&self->llhttp, data, size);
  if (*error == HPE_OK)
    return size;
  const char *end = llhttp_get_error_pos(&self->llhttp);
  size_t eaten = end >= data && end <= data + size ? (size_t)(end - data) : 0;
  if (*error == HPE_PAUSED)
    *error = HPE_OK;
  return eaten;
}

static void note_framing(struct parser *self) {
  const llhttp_t *llhttp = &self->llhttp;
  int status = llhttp->status_code;
  if (!self->request && (self->skip_body || status / 100 == 1 || status == 204 || status == 304))
    self->llhttp.flags |= F_SKIPBODY;
  self->upgrade = llhttp->upgrade;
  self->until_close = llhttp_message_needs_eof(llhttp);
  self->keepalive = llhttp_should_keep_alive(llhttp) && !(llhttp->flags & F_CONNECTION_CLOSE) &&
                    llhttp->method != HTTP_CONNECT;
}

static enum event headers(struct parser *self) {
  self->chunked = self->llhttp.flags & F_CHUNKED;
  self->has_length = self->llhttp.flags & F_CONTENT_LENGTH;
  self->length = self->llhttp.content_length;
  note_framing(self);
  if (!check_head(self))
    return EVENT_ERROR;
  self->trailers = self->field_count;
  self->stage = self->chunked ? STAGE_SIZE : STAGE_BODY;
  if (self->request && !self->chunked && !self->length)
    self->at |= AT_LAST;
  return EVENT_HEADERS;
}

/* A request of HTTP/0.9 is one line; llhttp would go on to read fields. */
static enum event simple(struct parser *self, size_t *used) {
  if (!check_target(self))
    return EVENT_ERROR;
  *used -= self->head_length - self->line;
  self->head_length = self->line;
  self->field_count = 0;
  self->stage = STAGE_BODY;
  self->llhttp.http_minor = 9;
  self->at |= AT_LAST;
  return EVENT_HEADERS;
}

static enum event read_head(struct parser *self, const char *data, size_t size, size_t *used) {
  enum llhttp_errno error;
  *used = feed(self, data, size, &error);
  if (error != HPE_OK)
    *used = size;
  if (!keep(self, data, *used) || (!self->overlong && !check_lines(self)))
    return EVENT_ERROR;
  if (self->at & AT_SIMPLE)
    return simple(self, used);
  if (self->overlong)
    return fail_overlong(self);
  if (error != HPE_OK)
    return fail_as_llhttp(self, error);
  return self->at & AT_HEADERS ? headers(self) : EVENT_MORE;
}

/* A request for an upgrade that was not granted may be followed by others. */
static enum event end(struct parser *self) {
  bool go_on = self->keepalive && (self->request || !self->upgrade);
  self->stage = go_on ? STAGE_IDLE : STAGE_CLOSED;
  if (self->llhttp.status_code / 100 != 1)
    self->skip_body = false;
  return EVENT_END;
}

/* A chunk's first line, or the lines behind the last chunk. */
static enum event read_lines(struct parser *self, const char *data, size_t size, size_t *used) {
  enum llhttp_errno error;
  *used = feed(self, data, size, &error);
  if (self->overlong)
    return fail_overlong(self);
  if (error != HPE_OK)
    return fail_as_llhttp(self, error);
  if (self->stage == STAGE_TRAILER) {
    if (!keep(self, data, *used) || !check_lines(self))
      return EVENT_ERROR;
    return EVENT_MORE;
  }
  self->size += *used;
  if (self->size >= self->limits.line)
    return parser_fail(self, "chunk", "the first line of a chunk is too long");
  return EVENT_MORE;
}

/* llhttp has stopped at the end of a chunk's first line, of a chunk, or of the message. */
static enum event step(struct parser *self) {
  if (self->at & AT_END)
    return self->stage == STAGE_TRAILER && !check_trailers(self) ? EVENT_ERROR : end(self);
  self->at = 0;
  if (self->stage == STAGE_SIZE)
    self->stage = self->llhttp.content_length ? STAGE_BODY : STAGE_TRAILER;
  else if (self->stage == STAGE_BODY)
    self->stage = STAGE_SIZE;
  self->size = 0;
  return EVENT_CHUNK;
}

static enum event read_body(struct parser *self, const char *data, size_t size, size_t *used) {
  enum llhttp_errno error;
  *used = feed(self, data, size, &error);
  return error == HPE_OK ? EVENT_MORE : fail_as_llhttp(self, error);
}

static enum event read_message(struct parser *self, const char *data, size_t size, size_t *used) {
  if (self->at & AT_LAST)
    return end(self);
  self->at = 0;
  enum event event = self->stage == STAGE_BODY ? read_body(self, data, size, used)
                                               : read_lines(self, data, size, used);
  return event == EVENT_MORE && self->at ? step(self) : event;
}

enum event parser_advance(struct parser *self, const char *data, size_t size, size_t *used) {
  *used = 0;
  self->body.data = NULL;
  self->body.length = 0;
  switch ((enum stage)self->stage) {
  case STAGE_IDLE:
    return size ? begin(self) : EVENT_MORE;
  case STAGE_METHOD:
    return read_method(self, data, size, used);
  case STAGE_HEAD:
    return read_head(self, data, size, used);
  case STAGE_CLOSED:
    return size ? parser_fail(self, "closed", "data behind the last message") : EVENT_MORE;
  case STAGE_DEAD:
    return EVENT_ERROR;
  default:
    return read_message(self, data, size, used);
  }
}

enum event parser_finish(struct parser *self) {
  switch ((enum stage)self->stage) {
  case STAGE_IDLE:
  case STAGE_CLOSED:
    return EVENT_MORE;
  case STAGE_DEAD:
    return EVENT_ERROR;
  case STAGE_BODY:
    if (self->until_close) {
      self->stage = STAGE_CLOSED;
      return EVENT_END;
    }
    /* fallthrough */
  default:
    return parser_fail(self, "eof", "unexpected end of the connection");
  }
}

void parser_end_bodiless(struct parser *self) {
  if (self->at & AT_LAST && self->stage == STAGE_BODY)
    end(self);
}

void parser_skip_body(struct parser *self) {
  self->skip_body = true;
  if (self->at & AT_HEADERS)
    note_framing(self);
}
