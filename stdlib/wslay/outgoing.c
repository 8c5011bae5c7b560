/* outgoing.c: messages and control frames for the peer (see codec.h). */
#include <string.h>
#include <sys/random.h>

#include "codec.h"

/* ---- what wslay calls ---- */

/* There is always room. */
ssize_t outgoing_callback(const uint8_t *data, size_t size, int flags, void *codec) {
  struct codec *self = codec;
  (void)flags;
  memcpy(self->out.to, data, size);
  self->out.to += size;
  return (ssize_t)size;
}

/* Random bytes are taken from the kernel for many frames at a time. */
int outgoing_mask(uint8_t *to, size_t size, void *codec) {
  static _Thread_local uint8_t pool[256];
  static _Thread_local size_t left;
  (void)codec;
  if (left < size) {
    if (getrandom(pool, sizeof pool, 0) != sizeof pool)
      return -1;
    left = sizeof pool;
  }
  left -= size;
  memcpy(to, pool + left, size);
  return 0;
}

/* ---- frames ---- */

static size_t write_frame(struct codec *self, struct wslay_frame_iocb frame, uint8_t *room) {
  frame.mask = self->client;
  frame.data_length = frame.payload_length;
  self->out.to = room;
  if (wslay_frame_send(self->frames, &frame) < 0)
    return 0;
  return (size_t)(self->out.to - room);
}

size_t outgoing_control(struct codec *self, uint8_t opcode, const uint8_t *data, size_t size,
                        uint8_t *room) {
  return write_frame(
      self,
      (struct wslay_frame_iocb){.fin = 1, .opcode = opcode, .data = data, .payload_length = size},
      room);
}

void outgoing_begin(struct codec *self, uint8_t opcode, const uint8_t *data, size_t size) {
  struct outgoing *out = &self->out;
  out->data = data;
  out->size = size;
  out->opcode = opcode;
  out->active = true;
  out->tail_size = 0;
  out->compressed = out->deflater.bits && size && size >= out->threshold;
}

/*
 * The next compressed fragment, put where it does not overlap with the frame it goes into.
 * Its last bytes wait for the next one: those of the message are not sent.
 */
static bool compress_fragment(struct outgoing *out, uint8_t *to, struct wslay_frame_iocb *frame) {
  bool ended;
  memcpy(to, out->tail, out->tail_size);
  size_t size = deflate_some(&out->deflater, &out->data, &out->size, to + out->tail_size,
                             MAX_FRAGMENT - out->tail_size, &ended);
  if (size == SIZE_MAX)
    return false;
  size += out->tail_size - TAIL_SIZE;
  memcpy(out->tail, to + size, TAIL_SIZE);
  out->tail_size = TAIL_SIZE;
  frame->data = to;
  frame->payload_length = size;
  frame->fin = ended;
  frame->rsv = out->opcode == WSLAY_CONTINUATION_FRAME ? WSLAY_RSV_NONE : WSLAY_RSV1_BIT;
  if (ended && out->deflater.reset)
    deflate_reset(&out->deflater);
  return true;
}

static void plain_fragment(struct outgoing *out, struct wslay_frame_iocb *frame) {
  size_t size = out->size < MAX_FRAGMENT ? out->size : MAX_FRAGMENT;
  frame->data = out->data;
  frame->payload_length = size;
  frame->fin = size == out->size;
  out->data += size;
  out->size -= size;
}

size_t outgoing_fragment(struct codec *self, uint8_t *room) {
  struct outgoing *out = &self->out;
  struct wslay_frame_iocb frame = {.opcode = out->opcode};
  if (!out->compressed)
    plain_fragment(out, &frame);
  else if (!compress_fragment(out, room + OUTGOING_ROOM, &frame))
    return 0;
  out->opcode = WSLAY_CONTINUATION_FRAME;
  out->active = !frame.fin;
  return write_frame(self, frame, room);
}
