/* deflate.c: compressing messages for the peer (RFC 7692, see codec.h). */
#include "codec.h"

static bool open_deflater(struct compression *self) {
  if (!self->open)
    self->open = deflateInit2(&self->stream, self->level, Z_DEFLATED, -self->bits, self->memory,
                              Z_DEFAULT_STRATEGY) == Z_OK;
  return self->open;
}

/* zlib counts in unsigned ints. */
static uInt clip(size_t size) { return size < 1 << 30 ? (uInt)size : 1 << 30; }

size_t deflate_some(struct compression *self, const uint8_t **data, size_t *size, uint8_t *to,
                    size_t room, bool *ended) {
  if (!open_deflater(self))
    return SIZE_MAX;
  z_stream *stream = &self->stream;
  stream->next_out = to;
  stream->avail_out = (uInt)room;
  do {
    uInt offered = clip(*size);
    stream->next_in = (Bytef *)*data;
    stream->avail_in = offered;
    deflate(stream, offered == *size ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    *data += offered - stream->avail_in;
    *size -= offered - stream->avail_in;
  } while (*size && stream->avail_out);
  *ended = stream->avail_out > 0;
  return room - stream->avail_out;
}

void deflate_reset(struct compression *self) {
  if (self->open)
    deflateReset(&self->stream);
}

void deflate_close(struct compression *self) {
  if (self->open)
    deflateEnd(&self->stream);
  self->open = false;
}
