/* cgi.c: a request as the variables of CGI/1.1 (RFC 3875), for servers. */
#include <string.h>

#include "parser.h"

static void set(lua_State *L, const char *name, const char *value, size_t length) {
  lua_pushlstring(L, value, length);
  lua_setfield(L, -2, name);
}

/* ---- the target ---- */

static int hex(char digit) {
  if (digit >= '0' && digit <= '9')
    return digit - '0';
  digit |= 0x20;
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* What is no escape stays as it is. */
static void push_decoded(lua_State *L, const char *text, size_t length) {
  if (!memchr(text, '%', length)) {
    lua_pushlstring(L, text, length);
    return;
  }
  luaL_Buffer buffer;
  char *to = luaL_buffinitsize(L, &buffer, length);
  size_t count = 0;
  for (size_t i = 0; i < length; i++) {
    int high = text[i] == '%' && length - i > 2 ? hex(text[i + 1]) : -1;
    int low = high >= 0 ? hex(text[i + 2]) : -1;
    to[count++] = low >= 0 ? (char)(high << 4 | low) : text[i];
    i += low >= 0 ? 2 : 0;
  }
  luaL_pushresultsize(&buffer, count);
}

/* The host of "http://host/path" counts, and no Host field (RFC 9112, section 3.2.2). */
static const char *skip_authority(lua_State *L, const char *target, const char *end) {
  const char *host = (const char *)memchr(target, ':', (size_t)(end - target)) + 3;
  const char *path = host;
  while (path < end && *path != '/' && *path != '?')
    path++;
  set(L, "HTTP_HOST", host, (size_t)(path - host));
  return path;
}

/* The table is on top. Returns whether the target has named the host. */
static bool set_target(lua_State *L, const struct parser *self) {
  const char *target = self->head + self->target.start;
  const char *end = self->head + self->target.end;
  set(L, "REQUEST_URI", target, (size_t)(end - target));
  bool host = *target != '/' && *target != '*' && self->llhttp.method != HTTP_CONNECT;
  if (host)
    target = skip_authority(L, target, end);
  const char *query = memchr(target, '?', (size_t)(end - target));
  const char *path_end = query ? query : end;
  if (path_end == target)
    lua_pushliteral(L, "/");
  else
    push_decoded(L, target, (size_t)(path_end - target));
  lua_setfield(L, -2, "PATH_INFO");
  query = query ? query + 1 : end;
  set(L, "QUERY_STRING", query, (size_t)(end - query));
  return host;
}

/* ---- fields ---- */

#define LONGEST_NAME 256
#define PREFIX "HTTP_"

enum { PREFIX_LENGTH = sizeof PREFIX - 1 };

/* Writes NAME for "Name"; false if the name could pass for another one. */
static bool make_variable(const char *name, size_t length, char *to) {
  for (size_t i = 0; i < length; i++) {
    char byte = name[i];
    if (byte == '_')
      return false;
    to[i] = (char)(byte == '-' ? '_' : byte >= 'a' && byte <= 'z' ? byte - 0x20 : byte);
  }
  return true;
}

/* Whether one of the fields before it has the same name. */
static bool is_repeated(const struct parser *self, const struct field *field) {
  const char *name = self->head + field->name.start;
  size_t length = field->name.end - field->name.start;
  for (const struct field *other = self->fields; other < field; other++)
    if (field_is(self, other, name, length))
      return true;
  return false;
}

/* On top: the table, the variable, the value; the last two are popped. */
static void join(lua_State *L, bool cookie) {
  lua_pushvalue(L, -2);
  lua_rawget(L, -4);
  lua_insert(L, -2);
  lua_pushstring(L, cookie ? "; " : ",");
  lua_insert(L, -2);
  lua_concat(L, 3);
  lua_rawset(L, -3);
}

#define IS(name, length, literal)                                                                  \
  ((length) == sizeof(literal) - 1 && memcmp(name, literal, sizeof(literal) - 1) == 0)

/* `host` says whether the target has named the host already. */
static void set_field(lua_State *L, const struct parser *self, const struct field *field,
                      bool host) {
  char variable[PREFIX_LENGTH + LONGEST_NAME] = PREFIX;
  char *name = variable + PREFIX_LENGTH;
  size_t length = field->name.end - field->name.start;
  if (length > LONGEST_NAME || !make_variable(self->head + field->name.start, length, name) ||
      IS(name, length, "PROXY") || (host && IS(name, length, "HOST")))
    return;
  if (IS(name, length, "CONTENT_TYPE") || IS(name, length, "CONTENT_LENGTH"))
    lua_pushlstring(L, name, length);
  else
    lua_pushlstring(L, variable, PREFIX_LENGTH + length);
  struct span value = field_value(self, field);
  lua_pushlstring(L, self->head + value.start, value.end - value.start);
  if (is_repeated(self, field))
    join(L, IS(name, length, "COOKIE"));
  else
    lua_rawset(L, -3);
}

void cgi_push(lua_State *L, const struct parser *self) {
  lua_createtable(L, 0, 9 + (int)self->field_count);
  set(L, "REQUEST_METHOD", self->head, self->method);
  lua_pushstring(L, self->llhttp.http_major == 0   ? "HTTP/0.9"
                    : self->llhttp.http_minor == 0 ? "HTTP/1.0"
                                                   : "HTTP/1.1");
  lua_setfield(L, -2, "SERVER_PROTOCOL");
  bool host = set_target(L, self);
  for (size_t i = 0; i < self->trailers; i++)
    set_field(L, self, &self->fields[i], host);
}
