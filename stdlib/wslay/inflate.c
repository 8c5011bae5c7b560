/* inflate.c: messages the peer has compressed (RFC 7692, see codec.h). */
#include <stdlib.h>

#include "codec.h"

/* Made room for at a time, so that a small message may become a large one only step by step. */
#define STEP (16 << 10)

const uint8_t deflate_tail[TAIL_SIZE] = {0x00, 0x00, 0xFF, 0xFF};

static bool open_inflater(struct compression *self) {
  if (!self->open)
    self->open = inflateInit2(&self->stream, -self->bits) == Z_OK;
  return self->open;
}

/* A block may say that it is the last one; the window outlives it all the same. */
static enum inflate_result restart(struct compression *self) {
  unsigned size = 1 << 15;
  uint8_t *window = malloc(size);
  if (!window)
    return INFLATE_NO_MEMORY;
  bool ok = inflateGetDictionary(&self->stream, window, &size) == Z_OK &&
            inflateReset(&self->stream) == Z_OK &&
            inflateSetDictionary(&self->stream, window, size) == Z_OK;
  free(window);
  return ok ? INFLATE_OK : INFLATE_WRONG;
}

/* One byte more than the limit is room enough to see that it is passed. */
static bool make_room(struct bytes *to, size_t limit) {
  size_t rest = limit - to->length + 1;
  return bytes_reserve(to, rest < STEP ? rest : STEP);
}

enum inflate_result inflate_some(struct compression *self, const uint8_t *data, size_t size,
                                 struct bytes *to, size_t limit) {
  if (!open_inflater(self))
    return INFLATE_NO_MEMORY;
  z_stream *stream = &self->stream;
  stream->next_in = (Bytef *)data;
  stream->avail_in = (uInt)size;
  do {
    if (!make_room(to, limit))
      return INFLATE_NO_MEMORY;
    size_t room = to->capacity - to->length;
    stream->next_out = to->data + to->length;
    stream->avail_out = (uInt)room;
    int status = inflate(stream, Z_SYNC_FLUSH);
    to->length += room - stream->avail_out;
    if (to->length > limit)
      return INFLATE_TOO_LONG;
    if (status == Z_MEM_ERROR)
      return INFLATE_NO_MEMORY;
    enum inflate_result result = status == Z_STREAM_END ? restart(self) : INFLATE_OK;
    if (result != INFLATE_OK)
      return result;
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      return INFLATE_WRONG;
  } while (stream->avail_in || !stream->avail_out);
  return INFLATE_OK;
}

enum inflate_result inflate_end(struct compression *self, struct bytes *to, size_t limit) {
  enum inflate_result result = inflate_some(self, deflate_tail, TAIL_SIZE, to, limit);
  if (result == INFLATE_OK && self->reset)
    inflateReset(&self->stream);
  return result;
}

void inflate_close(struct compression *self) {
  if (self->open)
    inflateEnd(&self->stream);
  self->open = false;
}
