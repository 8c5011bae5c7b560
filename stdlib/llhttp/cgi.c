/* cgi.c: a request as the variables of CGI/1.1 (RFC 3875), for servers. */
#include <string.h>
#include <strings.h>

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

/* The table is on top. */
static void set_target(lua_State *L, const struct parser *self) {
  const char *target = self->head + self->target.start;
  const char *end = self->head + self->target.end;
  set(L, "REQUEST_URI", target, (size_t)(end - target));
  if (*target != '/' && *target != '*' && self->llhttp.method != HTTP_CONNECT)
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
}

/* ---- fields ---- */

#define LONGEST_NAME 256

/* HTTP_NAME of "Name"; 0 if the name cannot be told from another one, or is too long. */
static size_t variable(const char *name, size_t length, char *to) {
  static const char prefix[] = "HTTP_";
  if (length > LONGEST_NAME || memchr(name, '_', length))
    return 0;
  memcpy(to, prefix, sizeof prefix - 1);
  to += sizeof prefix - 1;
  for (size_t i = 0; i < length; i++)
    to[i] = (char)(name[i] == '-'                     ? '_'
                   : name[i] >= 'a' && name[i] <= 'z' ? name[i] & ~0x20
                                                      : name[i]);
  return length + sizeof prefix - 1;
}

static bool is(const char *name, size_t length, const char *other, size_t other_length) {
  return length == other_length && strncasecmp(name, other, length) == 0;
}

#define IS(name, length, literal) is(name, length, literal, sizeof(literal) - 1)

/* The table is below the variable's name and value. */
static void set_or_join(lua_State *L, bool cookie) {
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -4) == LUA_TNIL) {
    lua_pop(L, 1);
  } else {
    lua_insert(L, -2);
    lua_pushstring(L, cookie ? "; " : ",");
    lua_insert(L, -2);
    lua_concat(L, 3);
  }
  lua_rawset(L, -3);
}

static void set_field(lua_State *L, const struct parser *self, const struct field *field) {
  char to[LONGEST_NAME + sizeof "HTTP_"];
  const char *name = self->head + field->name.start;
  size_t length = field->name.end - field->name.start;
  struct span span = field_value(self, field);
  const char *value = self->head + span.start;
  size_t value_length = span.end - span.start;
  if (IS(name, length, "content-type")) {
    set(L, "CONTENT_TYPE", value, value_length);
  } else if (IS(name, length, "content-length")) {
    set(L, "CONTENT_LENGTH", value, value_length);
  } else if (IS(name, length, "host")) {
    int known = lua_getfield(L, -1, "HTTP_HOST");
    lua_pop(L, 1);
    if (known == LUA_TNIL)
      set(L, "HTTP_HOST", value, value_length);
  } else if (!IS(name, length, "proxy") && (length = variable(name, length, to))) {
    lua_pushlstring(L, to, length);
    lua_pushlstring(L, value, value_length);
    set_or_join(L, IS(to, length, "HTTP_COOKIE"));
  }
}

void cgi_push(lua_State *L, const struct parser *self) {
  lua_createtable(L, 0, 8 + (int)self->field_count);
  set(L, "REQUEST_METHOD", self->head, self->method);
  lua_pushstring(L, self->llhttp.http_major == 0   ? "HTTP/0.9"
                    : self->llhttp.http_minor == 0 ? "HTTP/1.0"
                                                   : "HTTP/1.1");
  lua_setfield(L, -2, "SERVER_PROTOCOL");
  set_target(L, self);
  for (size_t i = 0; i < self->trailers; i++)
    set_field(L, self, &self->fields[i]);
}
