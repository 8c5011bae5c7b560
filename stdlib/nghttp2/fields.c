/* fields.c: heads that are to be sent, from HTTP/1's form (see session.h). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "session.h"

/* What is left of the text; `names` is where the next name in lower case goes. */
struct reader {
  const char *at, *end;
  char *names;
};

/* ---- lines ---- */

/* The length of the line, without its end; false if it does not end. */
static bool line_length(const struct reader *reader, size_t *length) {
  const char *cr = memchr(reader->at, '\r', (size_t)(reader->end - reader->at));
  *length = cr ? (size_t)(cr - reader->at) : 0;
  return cr && reader->end - cr > 1 && cr[1] == '\n';
}

static bool is_name_byte(unsigned char byte) { return byte > ' ' && byte < 127 && byte != ':'; }

/* The name's length, 0 if it is none; writes it in lower case. */
static size_t read_name(struct reader *reader, size_t length) {
  for (size_t i = 0; i < length; i++) {
    char byte = reader->at[i];
    if (byte == ':')
      return i;
    if (!is_name_byte((unsigned char)byte))
      return 0;
    reader->names[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
  }
  return 0;
}

static struct span trimmed(const char *text, size_t length) {
  while (length > 0 && (*text == ' ' || *text == '\t')) {
    text++;
    length--;
  }
  while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
    length--;
  return (struct span){(const uint8_t *)text, length};
}

/* ---- fields ---- */

static bool is(const char *name, size_t length, const char *other) {
  return strlen(other) == length && memcmp(name, other, length) == 0;
}

/* Of a connection of HTTP/1, and not of the message: RFC 9113, section 8.2.2. */
static bool is_of_connection(const char *name, size_t length) {
  static const char *const names[] = {"connection", "keep-alive",        "proxy-connection",
                                      "upgrade",    "transfer-encoding", "http2-settings"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (is(name, length, names[i]))
      return true;
  return false;
}

static void add(struct fields *fields, const char *name, size_t length, struct span value) {
  nghttp2_nv *field = &fields->list[fields->count++];
  *field = (nghttp2_nv){(uint8_t *)name, (uint8_t *)value.at, length, value.length,
                        NGHTTP2_NV_FLAG_NONE};
}

static void add_pseudo(struct fields *fields, const char *name, const char *value, size_t length) {
  add(fields, name, strlen(name), (struct span){(const uint8_t *)value, length});
}

/* Reads the fields up to the empty line, or the end of the text.  With `host`, that is no field. */
static const char *read_fields(struct fields *fields, struct reader *reader, struct span *host) {
  size_t length;
  while (reader->at < reader->end) {
    if (!line_length(reader, &length))
      return "a line without an end";
    if (length == 0)
      return NULL;
    const char *name = reader->names;
    size_t name_length = read_name(reader, length);
    if (!name_length)
      return "no field name";
    struct span value = trimmed(reader->at + name_length + 1, length - name_length - 1);
    if (!nghttp2_check_header_value(value.at, value.length))
      return "a field value that cannot be one";
    bool te = is(name, name_length, "te") && !is((const char *)value.at, value.length, "trailers");
    if (host && is(name, name_length, "host"))
      *host = value;
    else if (!te && !is_of_connection(name, name_length))
      add(fields, name, name_length, value);
    reader->names += name_length;
    reader->at += length + 2;
  }
  return NULL;
}

/* ---- heads ---- */

/* Room for as many fields as there can be, and four pseudo-headers.  A body may follow. */
static const char *start(struct fields *fields, const char *text, size_t length,
                         struct reader *reader) {
  size_t lines = 0;
  const char *end = memmem(text, length, "\r\n\r\n", 4);
  length = end ? (size_t)(end - text) + 4 : length;
  for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + length - at))); at++)
    lines++;
  *fields = (struct fields){.list = malloc((lines + 4) * sizeof(nghttp2_nv)),
                            .names = malloc(length + 1)};
  *reader = (struct reader){text, text + length, fields->names};
  return fields->list && fields->names ? NULL : "not enough memory";
}

static const char *finish(struct fields *fields, const char *problem) {
  if (problem)
    fields_free(fields);
  return problem;
}

static const char *read_status_line(struct fields *fields, struct reader *reader) {
  const char *line = reader->at;
  size_t length;
  if (!line_length(reader, &length) || length < 12 || memcmp(line, "HTTP/1.", 7) != 0)
    return "no status line";
  const char *digits = line + 9;
  if (strspn(digits, "0123456789") != 3 || *digits == '0')
    return "no status";
  fields->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + digits[2] - '0';
  if (fields->status == 101)
    return "status 101 is not for HTTP/2";
  add_pseudo(fields, ":status", digits, 3);
  reader->at += length + 2;
  return NULL;
}

const char *fields_of_response(struct fields *fields, const char *text, size_t length) {
  struct reader reader;
  const char *problem = start(fields, text, length, &reader);
  if (!problem)
    problem = read_status_line(fields, &reader);
  if (!problem)
    problem = read_fields(fields, &reader, NULL);
  return finish(fields, problem);
}

/* "METHOD target HTTP/1.1": the two, separated. */
static const char *read_request_line(struct reader *reader, struct span *method,
                                     struct span *target) {
  size_t length;
  if (!line_length(reader, &length))
    return "no request line";
  const char *line = reader->at, *end = line + length;
  const char *space = memchr(line, ' ', length);
  const char *last = space ? memchr(space + 1, ' ', (size_t)(end - space - 1)) : NULL;
  if (!last || end - last != 9 || memcmp(last, " HTTP/1.", 8) != 0)
    return "no request line";
  *method = (struct span){(const uint8_t *)line, (size_t)(space - line)};
  *target = (struct span){(const uint8_t *)space + 1, (size_t)(last - space - 1)};
  reader->at = end + 2;
  if (!nghttp2_check_method(method->at, method->length))
    return "no method";
  return nghttp2_check_path(target->at, target->length) && target->length ? NULL : "no target";
}

/* The four pseudo-headers come first: their places are filled once Host is known. */
const char *fields_of_request(struct fields *fields, const char *text, size_t length,
                              const char *scheme) {
  struct reader reader;
  struct span method, target, host = {NULL, 0};
  const char *problem = start(fields, text, length, &reader);
  if (!problem)
    problem = read_request_line(&reader, &method, &target);
  if (problem)
    return finish(fields, problem);
  bool connect = is((const char *)method.at, method.length, "CONNECT");
  fields->count = connect ? 2 : 4;
  problem = read_fields(fields, &reader, &host);
  if (!problem && !connect && !host.at)
    problem = "no Host";
  if (problem)
    return finish(fields, problem);
  size_t count = fields->count;
  fields->count = 0;
  add(fields, ":method", 7, method);
  add(fields, ":authority", 10, connect ? target : host);
  if (!connect) {
    add_pseudo(fields, ":scheme", scheme, strlen(scheme));
    add(fields, ":path", 5, target);
  }
  fields->count = count;
  return NULL;
}

const char *fields_of_trailers(struct fields *fields, const char *text, size_t length) {
  struct reader reader;
  const char *problem = start(fields, text, length, &reader);
  if (!problem)
    problem = read_fields(fields, &reader, NULL);
  return finish(fields, problem);
}

void fields_free(struct fields *fields) {
  free(fields->list);
  free(fields->names);
  *fields = (struct fields){.list = NULL};
}
