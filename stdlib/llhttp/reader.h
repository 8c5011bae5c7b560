/*
 * reader.h: a parser of requests as a server written in C sees it.
 *
 * The parser's module is a library of its own, which knows neither the hub nor sockets.  A server
 * reads the bytes and gives them to the parser through this.  It is the first member of the
 * parser's userdata.
 */
#ifndef MOONLET_LLHTTP_READER_H
#define MOONLET_LLHTTP_READER_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct reader;

struct reader_kind {
  /* Reads up to the end of a head, which begins with the first byte: false if that is not among
     them, or something is wrong. */
  bool (*read)(struct reader *self, const char *data, size_t size, size_t *used);
  int (*push)(lua_State *L, int index); /* of the parser there: the results of Parser:cgi */
  bool (*leave)(struct reader *self); /* whether the message is over: another connection may come */
  void (*reset)(struct reader *self); /* as Parser:reset */
};

struct reader {
  const struct reader_kind *kind;
};

#endif
