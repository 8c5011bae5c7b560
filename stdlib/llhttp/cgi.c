/*
 * cgi.c: a request as the variables of CGI/1.1 (RFC 3875), for servers.
 *
 * The names of variables are strings that are there already: those of all requests, and those of
 * fields that came lately.
 */
#include <string.h>

#include "parser.h"

/* Places in the table of words. */
enum {
  NAMES = 64, /* up to here those of fields, false for one that is left out */
  A_LONG_NAME,
  REQUEST_METHOD,
  REQUEST_URI,
  PATH_INFO,
  QUERY_STRING,
  SERVER_PROTOCOL,
  HTTP_09,
  HTTP_10,
  HTTP_11,
  NOTHING,
  KNOWN_NAMES, /* the userdata below */
  WORDS = KNOWN_NAMES
};

/* A field's name as it came, whose variable is in the table at the same place, counted from 1. */
struct known_name {
  uint8_t length; /* 0: none */
  char text[31];
};

void cgi_push_words(lua_State *L) {
  static const char *const words[] = {[REQUEST_METHOD] = "REQUEST_METHOD",
                                      [REQUEST_URI] = "REQUEST_URI",
                                      [PATH_INFO] = "PATH_INFO",
                                      [QUERY_STRING] = "QUERY_STRING",
                                      [SERVER_PROTOCOL] = "SERVER_PROTOCOL",
                                      [HTTP_09] = "HTTP/0.9",
                                      [HTTP_10] = "HTTP/1.0",
                                      [HTTP_11] = "HTTP/1.1",
                                      [NOTHING] = ""};
  lua_createtable(L, WORDS, 0);
  for (int place = 1; place < REQUEST_METHOD; place++) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, -2, place);
  }
  for (int place = REQUEST_METHOD; place <= NOTHING; place++) {
    lua_pushstring(L, words[place]);
    lua_rawseti(L, -2, place);
  }
  memset(lua_newuserdatauv(L, NAMES * sizeof(struct known_name), 0), 0,
         NAMES * sizeof(struct known_name));
  lua_rawseti(L, -2, KNOWN_NAMES);
}

/* What is pushed: the parser's table of words is right above the environment. */
struct cgi {
  lua_State *L;
  const struct parser *parser;
  int env, words;
};

static void push_word(const struct cgi *cgi, int place) { lua_rawgeti(cgi->L, cgi->words, place); }

static void set(const struct cgi *cgi, int place, const char *value, size_t length) {
  push_word(cgi, place);
  lua_pushlstring(cgi->L, value, length);
  lua_rawset(cgi->L, cgi->env);
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
static const char *skip_authority(const struct cgi *cgi, const char *target, const char *end) {
  const char *host = (const char *)memchr(target, ':', (size_t)(end - target)) + 3;
  const char *path = host;
  while (path < end && *path != '/' && *path != '?')
    path++;
  lua_pushlstring(cgi->L, host, (size_t)(path - host));
  lua_setfield(cgi->L, cgi->env, "HTTP_HOST");
  return path;
}

static void set_query(const struct cgi *cgi, const char *query, const char *end) {
  push_word(cgi, QUERY_STRING);
  if (query)
    lua_pushlstring(cgi->L, query + 1, (size_t)(end - query) - 1);
  else
    push_word(cgi, NOTHING);
  lua_rawset(cgi->L, cgi->env);
}

/* Returns whether the target has named the host. */
static bool set_target(const struct cgi *cgi) {
  const struct parser *self = cgi->parser;
  const char *target = self->head + self->target.start;
  const char *end = self->head + self->target.end;
  set(cgi, REQUEST_URI, target, (size_t)(end - target));
  bool host = *target != '/' && *target != '*' && self->llhttp.method != HTTP_CONNECT;
  if (host)
    target = skip_authority(cgi, target, end);
  const char *query = memchr(target, '?', (size_t)(end - target));
  const char *path_end = query ? query : end;
  push_word(cgi, PATH_INFO);
  if (path_end == target)
    lua_pushliteral(cgi->L, "/");
  else
    push_decoded(cgi->L, target, (size_t)(path_end - target));
  lua_rawset(cgi->L, cgi->env);
  set_query(cgi, query, end);
  return host;
}

static void set_protocol(const struct cgi *cgi) {
  const llhttp_t *llhttp = &cgi->parser->llhttp;
  push_word(cgi, SERVER_PROTOCOL);
  push_word(cgi, llhttp->http_major == 0 ? HTTP_09 : llhttp->http_minor == 0 ? HTTP_10 : HTTP_11);
  lua_rawset(cgi->L, cgi->env);
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

#define IS(name, length, literal)                                                                  \
  ((length) == sizeof(literal) - 1 && memcmp(name, literal, sizeof(literal) - 1) == 0)

/* Pushes the variable of a field, or false: it is left out. */
static void push_variable(lua_State *L, const char *field, size_t length) {
  char variable[PREFIX_LENGTH + LONGEST_NAME];
  char *name = variable + PREFIX_LENGTH;
  memcpy(variable, PREFIX, PREFIX_LENGTH);
  if (length > LONGEST_NAME || !make_variable(field, length, name) || IS(name, length, "PROXY"))
    lua_pushboolean(L, 0);
  else if (IS(name, length, "CONTENT_TYPE") || IS(name, length, "CONTENT_LENGTH"))
    lua_pushlstring(L, name, length);
  else
    lua_pushlstring(L, variable, PREFIX_LENGTH + length);
}

/* The place of a field's variable in the table of words, where it is from now on. */
static int find_variable(const struct cgi *cgi, const char *name, size_t length) {
  struct known_name *known = NULL;
  int place = A_LONG_NAME;
  if (length <= sizeof known->text) {
    unsigned hash = (unsigned char)name[0] * 3u + (unsigned char)name[length - 1] * 7u +
                    (unsigned char)name[length / 2] + (unsigned)length * 5u;
    place = (int)(hash % NAMES) + 1;
    known = cgi->parser->known_names + place - 1;
    if (known->length == length && memcmp(known->text, name, length) == 0)
      return place;
    known->length = 0;
  }
  push_variable(cgi->L, name, length);
  lua_rawseti(cgi->L, cgi->words, place);
  if (known) {
    memcpy(known->text, name, length);
    known->length = (uint8_t)length;
  }
  return place;
}

/* Whether one of the fields before it has the same name. */
static bool is_repeated(const struct parser *self, const struct field *field) {
  const char *name = self->head + field->name.start;
  size_t length = field->name.end - field->name.start;
  for (const struct field *other = self->fields; other < field; other++)
    if (other->name.end - other->name.start == length && field_is(self, other, name, length))
      return true;
  return false;
}

/* On top: the variable, the value; both are popped. */
static void join(const struct cgi *cgi, bool cookie) {
  lua_State *L = cgi->L;
  lua_pushvalue(L, -2);
  lua_rawget(L, cgi->env);
  lua_insert(L, -2);
  lua_pushstring(L, cookie ? "; " : ",");
  lua_insert(L, -2);
  lua_concat(L, 3);
  lua_rawset(L, cgi->env);
}

/* `host` says whether the target has named the host already. */
static void set_field(const struct cgi *cgi, const struct field *field, bool host) {
  const struct parser *self = cgi->parser;
  const char *name = self->head + field->name.start;
  size_t length = field->name.end - field->name.start;
  int place = find_variable(cgi, name, length);
  if (lua_rawgeti(cgi->L, cgi->words, place) != LUA_TSTRING ||
      (host && field_is(self, field, "host", 4))) {
    lua_pop(cgi->L, 1);
    return;
  }
  struct span value = field_value(self, field);
  lua_pushlstring(cgi->L, self->head + value.start, value.end - value.start);
  if (is_repeated(self, field))
    join(cgi, field_is(self, field, "cookie", 6));
  else
    lua_rawset(cgi->L, cgi->env);
}

void cgi_keep_words(lua_State *L, int index, struct parser *self) {
  lua_rawgeti(L, -1, KNOWN_NAMES);
  self->known_names = lua_touserdata(L, -1);
  lua_pop(L, 1);
  lua_setiuservalue(L, index, 1);
}

void cgi_push(lua_State *L, int index, const struct parser *self) {
  struct cgi cgi = {L, self, lua_gettop(L) + 1, lua_gettop(L) + 2};
  lua_createtable(L, 0, 9 + (int)self->field_count);
  lua_getiuservalue(L, index, 1);
  set_protocol(&cgi);
  bool host = set_target(&cgi);
  for (size_t i = 0; i < self->trailers; i++)
    set_field(&cgi, &self->fields[i], host);
  push_word(&cgi, REQUEST_METHOD);
  lua_pushlstring(L, self->head, self->method);
  lua_copy(L, -1, cgi.words);
  lua_rawset(L, cgi.env);
}
