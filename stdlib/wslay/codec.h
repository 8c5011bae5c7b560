/*
 * codec.h: one end of a WebSocket connection (RFC 6455) as a machine that is fed bytes and
 * gives messages, and the other way round.
 *
 * wslay takes frames apart and puts them together, zlib compresses messages (RFC 7692); what
 * is here are the rules between frames.  Nothing in it waits, and none of wslay's or zlib's
 * frames is ever left by a Lua error.
 */
#ifndef MOONLET_WSLAY_CODEC_H
#define MOONLET_WSLAY_CODEC_H

#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <wslay/wslay.h>
#include <zlib.h>

enum { MAX_CONTROL = 125, MAX_HEADER = 14 };

/* A longer message goes out in fragments of so many bytes, between which there is a chance for
   control frames. */
enum { MAX_FRAGMENT = 64 << 10 };

/* What messages' ends look like on the wire, and are not sent. */
enum { TAIL_SIZE = 4 };
extern const uint8_t deflate_tail[TAIL_SIZE];

/* ---- bytes that grow ---- */

struct bytes {
  uint8_t *data;
  size_t length, capacity;
};

/* Makes room for `size` more; false: out of memory. */
bool bytes_reserve(struct bytes *self, size_t size);
bool bytes_append(struct bytes *self, const uint8_t *data, size_t size);
void bytes_free(struct bytes *self);

/* ---- UTF-8 ---- */

/* What the next byte has to be. */
struct utf8 {
  uint8_t left; /* bytes the character still needs */
  uint8_t low, high;
};

/* False as soon as the bytes cannot be part of any valid text.  Zeroed: at the beginning. */
bool utf8_feed(struct utf8 *self, const uint8_t *data, size_t size);
static inline bool utf8_complete(const struct utf8 *self) { return !self->left; }

/* ---- compression, one direction each ---- */

struct compression {
  z_stream stream;
  bool open;    /* zlib has its memory, from the first message on */
  bool reset;   /* no context is taken over from one message to the next */
  uint8_t bits; /* of the window; 0: none was agreed on */
  int8_t level; /* the remaining two are of the sender only */
  uint8_t memory;
};

enum inflate_result { INFLATE_OK, INFLATE_TOO_LONG, INFLATE_WRONG, INFLATE_NO_MEMORY };

/* Appends to `to`, which may hold `limit` bytes. */
enum inflate_result inflate_some(struct compression *self, const uint8_t *data, size_t size,
                                 struct bytes *to, size_t limit);
enum inflate_result inflate_end(struct compression *self, struct bytes *to, size_t limit);
void inflate_close(struct compression *self);

/*
 * Compresses from *data on into `to`; returns how many bytes that are, or SIZE_MAX: out of
 * memory.  *ended: all is compressed and flushed.
 */
size_t deflate_some(struct compression *self, const uint8_t **data, size_t *size, uint8_t *to,
                    size_t room, bool *ended);
void deflate_reset(struct compression *self);
void deflate_close(struct compression *self);

/* ---- the two directions ---- */

enum event {
  EVENT_NONE, /* more bytes are needed */
  EVENT_TEXT,
  EVENT_BINARY,
  EVENT_PING,
  EVENT_PONG,
  EVENT_CLOSE,
  EVENT_ERROR
};

struct incoming {
  const uint8_t *input; /* what was fed and wslay has not taken yet */
  size_t input_size;
  uint64_t max_frame, max_message;
  uint64_t frame_got; /* of the frame under way */
  bool in_frame;
  uint8_t kind;      /* opcode of the message under way; 0: there is none */
  bool compressed;   /* that message */
  bool over;         /* closed or failed: what follows is ignored */
  uint64_t received; /* bytes of its payload, as they came */
  struct utf8 utf8;
  struct bytes message;
  uint8_t control[MAX_CONTROL];
  struct compression inflater;
  /* The event: */
  const uint8_t *data;
  size_t size;
  uint16_t code;
  const char *problem;
};

struct outgoing {
  const uint8_t *data; /* of the message under way */
  size_t size;
  uint8_t opcode; /* of its next frame; its first one says what it is */
  bool active;
  bool compressed;
  uint8_t tail[TAIL_SIZE];
  uint8_t tail_size; /* compressed bytes that were not sent since they may be the last */
  uint8_t *to;       /* where wslay writes */
  size_t threshold;  /* shorter messages are not compressed */
  struct compression deflater;
};

struct codec {
  wslay_frame_context_ptr frames;
  bool client;
  struct incoming in;
  struct outgoing out;
};

/* For wslay: hands it what was fed. */
ssize_t incoming_callback(uint8_t *to, size_t size, int flags, void *codec);

/* Goes on to the next event, whose data are valid until the next call. */
enum event incoming_next(struct codec *self);

/* What is room enough for any frame. */
#define OUTGOING_ROOM (MAX_HEADER + TAIL_SIZE + MAX_FRAGMENT)

ssize_t outgoing_callback(const uint8_t *data, size_t size, int flags, void *codec);
int outgoing_mask(uint8_t *to, size_t size, void *codec);

/* Begins a message; the data must stay where they are. */
void outgoing_begin(struct codec *self, uint8_t opcode, const uint8_t *data, size_t size);

/* Writes the message's next frame into `room`, of OUTGOING_ROOM bytes; returns its size, or
   0: out of memory.  `active` tells whether there are more. */
size_t outgoing_fragment(struct codec *self, uint8_t *room);

/* Writes a control frame; may be called between fragments. */
size_t outgoing_control(struct codec *self, uint8_t opcode, const uint8_t *data, size_t size,
                        uint8_t *room);

/* Whether an endpoint may say this code in a close frame. */
bool is_close_code(long long code);

/* digest.c: functions of the module for the opening handshake. */
extern const luaL_Reg digest_functions[];

#endif
