/*
 * transport.h: what carries a stream's bytes when the bare descriptor does not: TLS.
 *
 * A transport works on a non-blocking descriptor and never waits: where it cannot go on it
 * says for which direction to wait, and is called again with the same arguments.  It knows
 * neither the hub nor greenlets, so that its module links with its own library alone; the
 * stream (stream.h) does the waiting.  The full userdata that begins with it is kept by the
 * stream for as long as that lives.
 */
#ifndef MOONLET_TRANSPORT_H
#define MOONLET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What may come instead of a number of bytes. */
enum {
  TRANSPORT_END = 0,         /* the peer has ended the stream in order */
  TRANSPORT_FAILED = -1,     /* `message` says why; nothing works from now on */
  TRANSPORT_WANT_READ = -2,  /* wait until the descriptor can be read */
  TRANSPORT_WANT_WRITE = -3, /* until it can be written */
  TRANSPORT_CUT = -4         /* the connection ended without the transport's own farewell */
};

struct transport;

struct transport_kind {
  const char *name; /* "ssl" */
  ssize_t (*read)(struct transport *self, char *data, size_t size);
  ssize_t (*write)(struct transport *self, const char *data, size_t size); /* size > 0 */
  int (*handshake)(struct transport *self);                                /* 1: done */
  int (*farewell)(struct transport *self); /* tells the peer that no more will come; 1: done */
  bool (*pending)(struct transport *self); /* has input that the kernel no longer has */
  const char *(*message)(struct transport *self); /* of the last failure */
};

struct transport {
  const struct transport_kind *kind;
  int fd; /* set by the stream before anything is called */
};

/* The metatable of a transport's userdata has this field, true. */
#define TRANSPORT_MARK "__transport"

#endif
