/*
 * incoming.c: what the peer sends, frame by frame (see codec.h).
 *
 * A mistake is noticed as soon as its bytes are there, not only at the end of the message.
 */
#include <string.h>

#include "codec.h"

ssize_t incoming_callback(uint8_t *to, size_t size, int flags, void *codec) {
  struct incoming *in = &((struct codec *)codec)->in;
  size_t count = size < in->input_size ? size : in->input_size;
  (void)flags;
  if (!count)
    return -1;
  memcpy(to, in->input, count);
  in->input += count;
  in->input_size -= count;
  return (ssize_t)count;
}

/* ---- events ---- */

static enum event fail(struct incoming *in, uint16_t code, const char *problem) {
  in->code = code;
  in->problem = problem;
  in->over = true;
  bytes_free(&in->message);
  return EVENT_ERROR;
}

static enum event fail_protocol(struct incoming *in, const char *problem) {
  return fail(in, WSLAY_CODE_PROTOCOL_ERROR, problem);
}

static enum event fail_size(struct incoming *in, const char *problem) {
  return fail(in, WSLAY_CODE_MESSAGE_TOO_BIG, problem);
}

static enum event fail_memory(struct incoming *in) {
  return fail(in, WSLAY_CODE_INTERNAL_SERVER_ERROR, "not enough memory");
}

static enum event fail_text(struct incoming *in) {
  return fail(in, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA, "text is not UTF-8");
}

static enum event give(struct incoming *in, enum event event, const uint8_t *data, size_t size) {
  in->data = data;
  in->size = size;
  return event;
}

/* ---- control frames ---- */

/* The registered codes and those left to libraries and applications; without the ones that
   only an endpoint itself may say to its user. */
bool is_close_code(long long code) {
  return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
         (code >= 3000 && code <= 4999);
}

static enum event end_close(struct incoming *in, size_t size) {
  struct utf8 utf8 = {0};
  in->code = WSLAY_CODE_NO_STATUS_RCVD;
  if (size == 1)
    return fail_protocol(in, "close frame with half a code");
  if (size) {
    in->code = (uint16_t)(in->control[0] << 8 | in->control[1]);
    if (!is_close_code(in->code))
      return fail_protocol(in, "close code not allowed");
    if (!utf8_feed(&utf8, in->control + 2, size - 2) || !utf8_complete(&utf8))
      return fail(in, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA, "close reason is not UTF-8");
  }
  in->over = true;
  return give(in, EVENT_CLOSE, in->control + 2, size ? size - 2 : 0);
}

/* (Its length is bounded by wslay.) */
static enum event take_control(struct incoming *in, const struct wslay_frame_iocb *frame) {
  size_t size = (size_t)frame->payload_length;
  memcpy(in->control + in->frame_got, frame->data, frame->data_length);
  if (in->frame_got + frame->data_length < size)
    return EVENT_NONE;
  if (frame->opcode == WSLAY_PING)
    return give(in, EVENT_PING, in->control, size);
  if (frame->opcode == WSLAY_PONG)
    return give(in, EVENT_PONG, in->control, size);
  return end_close(in, size);
}

/* ---- messages ---- */

static enum event finish_message(struct incoming *in, const uint8_t *data, size_t size) {
  enum event event = in->kind == WSLAY_TEXT_FRAME ? EVENT_TEXT : EVENT_BINARY;
  in->kind = 0;
  if (event == EVENT_TEXT && !utf8_complete(&in->utf8))
    return fail_text(in);
  return give(in, event, data, size);
}

static bool is_valid(struct incoming *in, const uint8_t *data, size_t size) {
  return in->kind != WSLAY_TEXT_FRAME || utf8_feed(&in->utf8, data, size);
}

static enum event take_plain(struct incoming *in, const uint8_t *data, size_t size, bool ends) {
  if (!is_valid(in, data, size))
    return fail_text(in);
  if (ends && !in->message.length)
    return finish_message(in, data, size);
  if (!bytes_append(&in->message, data, size))
    return fail_memory(in);
  return ends ? finish_message(in, in->message.data, in->message.length) : EVENT_NONE;
}

static enum event take_compressed(struct incoming *in, const uint8_t *data, size_t size,
                                  bool ends) {
  struct bytes *message = &in->message;
  size_t before = message->length;
  enum inflate_result result = INFLATE_OK;
  if (size)
    result = inflate_some(&in->inflater, data, size, message, in->max_message);
  if (result == INFLATE_OK && ends)
    result = inflate_end(&in->inflater, message, in->max_message);
  if (result == INFLATE_NO_MEMORY)
    return fail_memory(in);
  if (result == INFLATE_TOO_LONG)
    return fail_size(in, "message too long");
  if (result == INFLATE_WRONG)
    return fail(in, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA, "message cannot be inflated");
  if (message->length > before && !is_valid(in, message->data + before, message->length - before))
    return fail_text(in);
  return ends ? finish_message(in, message->data, message->length) : EVENT_NONE;
}

/* ---- frames ---- */

static const char *check_data_frame(const struct incoming *in,
                                    const struct wslay_frame_iocb *frame) {
  if (frame->opcode == WSLAY_CONTINUATION_FRAME)
    return in->kind ? NULL : "continuation of no message";
  return in->kind ? "message within another" : NULL;
}

static const char *check_frame(const struct codec *self, const struct wslay_frame_iocb *frame) {
  bool first = frame->opcode == WSLAY_TEXT_FRAME || frame->opcode == WSLAY_BINARY_FRAME;
  uint8_t allowed = first && self->in.inflater.bits ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE;
  if (frame->rsv & ~allowed)
    return "reserved bit is set";
  if (frame->opcode > WSLAY_PONG ||
      (frame->opcode > WSLAY_BINARY_FRAME && frame->opcode < WSLAY_CONNECTION_CLOSE))
    return "reserved opcode";
  if (frame->mask == self->client)
    return self->client ? "masked frame from a server" : "unmasked frame from a client";
  return wslay_is_ctrl_frame(frame->opcode) ? NULL : check_data_frame(&self->in, frame);
}

static void begin_message(struct incoming *in, const struct wslay_frame_iocb *frame) {
  in->kind = frame->opcode;
  in->compressed = frame->rsv & WSLAY_RSV1_BIT;
  in->received = 0;
  in->utf8 = (struct utf8){0};
}

/* At the first bytes of a frame. */
static enum event begin_frame(struct codec *self, const struct wslay_frame_iocb *frame) {
  struct incoming *in = &self->in;
  const char *problem = check_frame(self, frame);
  in->frame_got = 0;
  if (problem)
    return fail_protocol(in, problem);
  if (wslay_is_ctrl_frame(frame->opcode))
    return EVENT_NONE;
  if (frame->payload_length > in->max_frame)
    return fail_size(in, "frame too long");
  if (!in->kind)
    begin_message(in, frame);
  if (frame->payload_length > in->max_message - in->received)
    return fail_size(in, "message too long");
  in->received += frame->payload_length;
  return EVENT_NONE;
}

static enum event take(struct codec *self, const struct wslay_frame_iocb *frame) {
  struct incoming *in = &self->in;
  enum event event = in->in_frame ? EVENT_NONE : begin_frame(self, frame);
  if (event != EVENT_NONE)
    return event;
  bool complete = in->frame_got + frame->data_length == frame->payload_length;
  if (wslay_is_ctrl_frame(frame->opcode))
    event = take_control(in, frame);
  else if (in->compressed)
    event = take_compressed(in, frame->data, frame->data_length, complete && frame->fin);
  else
    event = take_plain(in, frame->data, frame->data_length, complete && frame->fin);
  in->frame_got += frame->data_length;
  in->in_frame = !complete;
  return event;
}

enum event incoming_next(struct codec *self) {
  struct incoming *in = &self->in;
  enum event event = EVENT_NONE;
  if (!in->kind)
    bytes_free(&in->message);
  while (event == EVENT_NONE && !in->over) {
    struct wslay_frame_iocb frame;
    ssize_t count = wslay_frame_recv(self->frames, &frame);
    if (count == WSLAY_ERR_WANT_READ)
      break;
    event = count < 0 ? fail_protocol(in, "frame is malformed") : take(self, &frame);
  }
  return event;
}
