/*
 * parser.h: one end of an HTTP/1 connection, as it is read: llhttp and what is stricter here.
 *
 * llhttp reads the bytes; this collects what it finds.  The head of a message is kept as it
 * came (`head`), names and values are places in it.  llhttp is stopped at the end of the
 * head, of each chunk's first line and of the message, so that nothing beyond is eaten.
 *
 * No part of a message is ever taken for the next one: what llhttp lets pass and another
 * reader might see differently is an error (check.c).
 */
#ifndef MOONLET_LLHTTP_PARSER_H
#define MOONLET_LLHTTP_PARSER_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <llhttp.h>

#include "reader.h"

struct limits {
  size_t line;            /* bytes of a line with its end: so many are too many */
  size_t header_bytes;    /* most bytes of a head with its trailers */
  size_t header_count;    /* fields of both */
  size_t extension_bytes; /* of all chunk extensions of a message */
};

/* A part of the head: places in it. */
struct span {
  size_t start, end;
};

struct known_name;

struct field {
  struct span name, value;
};

enum stage {
  STAGE_IDLE,    /* between messages */
  STAGE_METHOD,  /* in the first word of a request */
  STAGE_HEAD,    /* up to the empty line */
  STAGE_BODY,    /* plain, or in a chunk */
  STAGE_SIZE,    /* in the first line of a chunk */
  STAGE_TRAILER, /* behind the last chunk */
  STAGE_CLOSED,  /* nothing may follow */
  STAGE_DEAD     /* after an error */
};

/* What llhttp has come to. */
enum {
  AT_HEADERS = 1,
  AT_CHUNK = 2,
  AT_END = 4,
  AT_SIMPLE = 8, /* the line of a request of HTTP/0.9 */
  AT_LAST = 16   /* what was read is the whole message */
};

struct parser {
  struct reader reader; /* for servers; its kind is in no other userdata */
  llhttp_t llhttp;
  uint8_t stage; /* enum stage */
  uint8_t at;    /* what is to be reported */
  bool request;
  bool keepalive, upgrade, chunked, has_length, until_close;
  bool skip_body; /* asked for before the head was there */
  bool in_field;  /* in the name of a field */
  bool overlong;  /* a limit that only a callback sees */
  bool ended;     /* the end is to be reported after a piece of the body */
  struct limits limits;
  uint64_t length;         /* of the body, if has_length */
  size_t extensions, size; /* bytes of chunk extensions; of the chunk's first line */
  const char *message;     /* of an error */
  const char *code;
  char *head;
  size_t head_length, head_capacity;
  size_t line, scanned; /* of the head: where the current line begins, and is searched up to */
  size_t method;        /* length of the first word */
  struct span target, reason;
  struct field *fields;
  size_t field_count, field_capacity;
  size_t trailers;                /* fields from there on came behind the body */
  const char *input;              /* what llhttp is reading: stands for head_length */
  struct known_name *known_names; /* cgi.c; its user value holds them */
  struct {                        /* of the body: what was read last */
    const char *data;
    size_t length;
  } body;
};

/* What parser_advance has come to. */
enum event { EVENT_MORE, EVENT_HEADERS, EVENT_CHUNK, EVENT_END, EVENT_ERROR };

/* ---- parser.c ---- */

void parser_init(struct parser *self, bool request, const struct limits *limits);
void parser_reset(struct parser *self);
void parser_free(struct parser *self);

/* The next bytes are another connection's: false if the message is not over. */
bool parser_leave(struct parser *self);

/* Reads some of the input; `used` says how much.  Bytes of the body are in self->body. */
enum event parser_advance(struct parser *self, const char *data, size_t size, size_t *used);

/* The input has ended: EVENT_END, EVENT_MORE (nothing was begun) or EVENT_ERROR. */
enum event parser_finish(struct parser *self);

/* The end of a message that has no body is not to be reported. */
void parser_end_bodiless(struct parser *self);

/* The message has no body, whatever its head says: an answer to HEAD. */
void parser_skip_body(struct parser *self);

/* It is dead from now on. */
enum event parser_fail(struct parser *self, const char *code, const char *message);

/* ---- characters.c ---- */

/* What a byte may be part of. */
enum { IN_TOKEN = 1, IN_HOST = 2 };
extern const uint8_t characters[256];

/* Whether all bytes may be part of it. */
static inline bool consists_of(const char *text, size_t length, uint8_t kind) {
  for (size_t i = 0; i < length; i++)
    if (!(characters[(unsigned char)text[i]] & kind))
      return false;
  return true;
}

/* ---- check.c ---- */

/* Looks at the lines that have become complete: false, and dead, if one is not as it must be. */
bool check_lines(struct parser *self);

/* The same for the head as a whole, for its target, and for the trailers. */
bool check_head(struct parser *self);
bool check_target(struct parser *self);
bool check_trailers(struct parser *self);

/* Whether the field's name is this one, given in lower case. */
bool field_is(const struct parser *self, const struct field *field, const char *name,
              size_t length);

/* The value without white space behind it. */
struct span field_value(const struct parser *self, const struct field *field);

/* ---- fields.c ---- */

/* Pushes a table of the fields from..to: names and values in order, and values by name. */
void fields_push(lua_State *L, const struct parser *self, size_t from, size_t to);

/* ---- cgi.c ---- */

/* Pushes the table of words that all parsers of a Lua state share. */
void cgi_push_words(lua_State *L);

/* Takes it from the top, for the parser at `index`. */
void cgi_keep_words(lua_State *L, int index, struct parser *self);

/* Pushes a table of the request's variables, as CGI has them, and the method. */
void cgi_push(lua_State *L, int index, const struct parser *self);

#endif
