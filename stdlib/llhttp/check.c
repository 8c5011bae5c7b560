/*
 * check.c: what llhttp lets pass and is refused here (see parser.h).
 *
 * Where two readers of the same bytes could differ about where a message ends, one request
 * could be hidden in another: RFC 9112, section 11.2.
 */
#include <string.h>
#include <strings.h>

#include "parser.h"

/* ---- lines ---- */

static const char *line_start(const struct parser *self) { return self->head + self->line; }

/* One space, the target, one space, and the version; or the line that HTTP/0.9 had. */
static bool request_line_is_good(struct parser *self, size_t end) {
  const struct span *target = &self->target;
  if (target->start != self->method + 1)
    return false;
  if (end == target->end && self->method == 3 && memcmp(self->head, "GET", 3) == 0) {
    self->at |= AT_SIMPLE;
    return true;
  }
  return end == target->end + 1 + strlen("HTTP/1.1");
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

/* "HTTP/1.1 200 text", or without the text and its space. */
static bool status_line_is_good(const char *line, size_t length) {
  return length >= 12 && line[8] == ' ' && line[9] >= '1' && is_digit(line[9]) &&
         is_digit(line[10]) && is_digit(line[11]) && (length == 12 || line[12] == ' ') &&
         !memchr(line, 0, length);
}

/* The first line, whose end llhttp has seen; or one of the others. */
static bool line_is_good(struct parser *self, size_t end) {
  const char *line = line_start(self);
  size_t length = end - self->line;
  if (self->line > 0) {
    if (*line != ' ' && *line != '\t')
      return true;
    parser_fail(self, "header", "a header field goes on in another line");
    return false;
  }
  if (self->request ? request_line_is_good(self, end) : status_line_is_good(line, length))
    return true;
  parser_fail(self, self->request ? "request" : "status", "bad first line");
  return false;
}

static bool too_long(struct parser *self) {
  bool first = self->line == 0 && self->stage == STAGE_HEAD;
  if (first)
    parser_fail(self, "line", "the first line is too long");
  else
    parser_fail(self, "headers", "the header is too long");
  return false;
}

bool check_lines(struct parser *self) {
  for (;;) {
    const char *from = self->head + self->scanned;
    const char *lf = memchr(from, '\n', self->head_length - self->scanned);
    size_t next = lf ? (size_t)(lf - self->head) + 1 : self->head_length;
    self->scanned = next;
    if (next - self->line >= self->limits.line || next > self->limits.header_bytes)
      return too_long(self);
    if (!lf)
      return true;
    const char *line = line_start(self);
    size_t length = (size_t)(lf - line);
    if (!length || memchr(line, '\r', length) != lf - 1) {
      parser_fail(self, "header", "a line that does not end in CR LF");
      return false;
    }
    if (!line_is_good(self, next - 2))
      return false;
    self->line = next;
    if (self->at & AT_SIMPLE)
      return true;
  }
}

/* ---- fields ---- */

bool field_is(const struct parser *self, const struct field *field, const char *name,
              size_t length) {
  return field->name.end - field->name.start == length &&
         strncasecmp(self->head + field->name.start, name, length) == 0;
}

#define FIELD_IS(self, field, literal) field_is(self, field, literal, sizeof(literal) - 1)

/* llhttp has left out the white space before it. */
struct span field_value(const struct parser *self, const struct field *field) {
  struct span value = field->value;
  while (value.end > value.start &&
         (self->head[value.end - 1] == ' ' || self->head[value.end - 1] == '\t'))
    value.end--;
  return value;
}

static bool is_chunked(const struct parser *self, const struct field *field) {
  struct span value = field_value(self, field);
  return value.end - value.start == 7 && strncasecmp(self->head + value.start, "chunked", 7) == 0;
}

static enum event check_coding(struct parser *self, const struct field *field) {
  if (self->llhttp.http_minor == 0)
    return parser_fail(self, "length", "a transfer coding in HTTP/1.0");
  if (!is_chunked(self, field))
    return parser_fail(self, "coding", "unknown transfer coding");
  return EVENT_MORE;
}

static enum event check_host(struct parser *self, const struct field *field, int *hosts) {
  struct span value = field_value(self, field);
  if (++*hosts > 1)
    return parser_fail(self, "host", "more than one Host");
  if (!consists_of(self->head + value.start, value.end - value.start, IN_HOST))
    return parser_fail(self, "host", "bad Host");
  return EVENT_MORE;
}

static bool check_fields(struct parser *self) {
  int hosts = 0;
  bool coded = false;
  for (size_t i = 0; i < self->field_count; i++) {
    const struct field *field = &self->fields[i];
    enum event event = EVENT_MORE;
    if (FIELD_IS(self, field, "transfer-encoding")) {
      event = coded ? parser_fail(self, "length", "more than one transfer coding")
                    : check_coding(self, field);
      coded = true;
    } else if (self->request && FIELD_IS(self, field, "host")) {
      event = check_host(self, field, &hosts);
    }
    if (event == EVENT_ERROR)
      return false;
  }
  if (self->request && !hosts && self->llhttp.http_minor == 1)
    parser_fail(self, "host", "no Host");
  else if (coded != self->chunked || (coded && self->has_length))
    parser_fail(self, "length", "bad transfer coding");
  return self->stage != STAGE_DEAD;
}

/* ---- the whole ---- */

static bool version_is_good(const struct parser *self) {
  const llhttp_t *llhttp = &self->llhttp;
  return llhttp->http_major == 1 && llhttp->http_minor <= 1;
}

/* scheme://host, and what follows it; the host counts as that of the Host field does. */
static bool is_absolute(const char *target, size_t length) {
  const char *end = target + length, *host = memchr(target, ':', length);
  if (!host || end - host < 4 || memcmp(host, "://", 3) != 0)
    return false;
  host += 3;
  size_t host_length = 0;
  while (host + host_length < end && host[host_length] != '/' && host[host_length] != '?')
    host_length++;
  return host_length > 0 && consists_of(host, host_length, IN_HOST);
}

/* A host and a port for CONNECT; "*" for OPTIONS, of the server as a whole; no fragment. */
static bool target_is_good(const struct parser *self, const char *target, size_t length) {
  if (!length)
    return false;
  if (self->llhttp.method == HTTP_CONNECT)
    return consists_of(target, length, IN_HOST);
  if (*target == '*')
    return length == 1 && self->method == 7 && memcmp(self->head, "OPTIONS", 7) == 0;
  return (*target == '/' || is_absolute(target, length)) && !memchr(target, '#', length);
}

bool check_target(struct parser *self) {
  const char *target = self->head + self->target.start;
  if (target_is_good(self, target, self->target.end - self->target.start))
    return true;
  parser_fail(self, "request", "bad target");
  return false;
}

bool check_head(struct parser *self) {
  if (!version_is_good(self)) {
    parser_fail(self, "version", "unknown version of HTTP");
    return false;
  }
  if (self->request && !check_target(self))
    return false;
  if (self->has_length && self->length > INT64_MAX) {
    parser_fail(self, "length", "too large a length");
    return false;
  }
  return check_fields(self);
}

bool check_trailers(struct parser *self) {
  for (size_t i = self->trailers; i < self->field_count; i++) {
    const struct field *field = &self->fields[i];
    if (FIELD_IS(self, field, "content-length") || FIELD_IS(self, field, "transfer-encoding") ||
        FIELD_IS(self, field, "host") || FIELD_IS(self, field, "connection")) {
      parser_fail(self, "header", "a trailer that may not be one");
      return false;
    }
  }
  return true;
}
