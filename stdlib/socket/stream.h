/*
 * stream.h: sockets that carry a stream of bytes, with LuaSocket's receive and send.
 *
 * What has arrived and was not asked for stays in a buffer, which is there only while it
 * holds something: an idle connection has none.  Bytes pass through a transport (TLS) if
 * the stream has one.
 */
#ifndef MOONLET_STREAM_H
#define MOONLET_STREAM_H

#include "socket.h"
#include "transport.h"

struct stream {
  struct sock sock;
  struct transport *transport; /* NULL: the descriptor itself */
  char *buffer;                /* NULL: nothing is kept */
  size_t start, end, capacity; /* buffer[start..end) has arrived */
  size_t scanned;              /* of it, known to hold no end of line */
  lua_Integer first;           /* byte of the data being sent */
  size_t size, offset;         /* how much is to go out from there, and is out */
  size_t line_limit;           /* most bytes of a line; 0: any number */
  bool drained;                /* the last call has taken all that had come */
};

enum { UV_TRANSPORT = CLASS_FIELDS + 1 }; /* of a secure one: keeps it alive */

/* The stream at argument 1, of whichever class below Stream. */
struct stream *stream_check(lua_State *L);

/* Reads or writes once: a number of bytes, or one of the transport's words.  `flags` are send's,
   where the descriptor itself carries the bytes. */
ssize_t stream_read(struct stream *self, char *data, size_t size);
ssize_t stream_write(struct stream *self, const char *data, size_t size, int flags);

/* nil and why the last of these failed. */
int stream_fail(lua_State *L, struct stream *self, ssize_t word);

/* What to wait for when one of these wants to. */
static inline int stream_events(ssize_t word) {
  return word == TRANSPORT_WANT_READ ? EV_READ : EV_WRITE;
}

/* How a call that may not wait any longer for that ends: of TLS, LuaSec tells what it wants. */
static inline const char *stream_timeout(const struct stream *self, ssize_t word) {
  if (!self->transport || (self->sock.block != 0 && self->sock.total != 0))
    return "timeout";
  return word == TRANSPORT_WANT_READ ? "wantread" : "wantwrite";
}

/*
 * Who took all that had come, a short read ago, would find nothing by another try: while others
 * are ready, the next call begins by waiting.  If something has come meanwhile, that is over at
 * once.
 */
static inline bool stream_waits_first(struct stream *self) {
  bool waits = self->drained && self->sock.fd >= 0 && !self->transport &&
               !list_empty(&self->sock.hub->ready);
  self->drained = false;
  if (waits)
    io_untried(self->sock.ring);
  return waits;
}

static inline bool stream_drains(const struct stream *self, size_t count, size_t room) {
  return count < room && !self->transport;
}

/* Whether it has input that the kernel does not. */
bool stream_dirty(const struct stream *self);

/* Forgets what the buffer holds. */
void stream_discard(struct stream *self);

int stream_receive(lua_State *L); /* receive.c: the methods, for a stream that is checked */
int stream_recv(lua_State *L);

#endif
