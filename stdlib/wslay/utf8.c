/* utf8.c: whether bytes that come in pieces are UTF-8 (see codec.h). */
#include <string.h>

#include "codec.h"

/* Of eight bytes, the ones that are not ASCII. */
#define HIGH_BITS 0x8080808080808080u

static size_t count_ascii(const uint8_t *data, size_t size) {
  size_t i = 0;
  for (uint64_t word; i + sizeof word <= size; i += sizeof word) {
    memcpy(&word, data + i, sizeof word);
    if (word & HIGH_BITS)
      break;
  }
  while (i < size && data[i] < 0x80)
    i++;
  return i;
}

/* The second byte of some is bounded more tightly: no overlong forms, surrogates, or characters
   beyond U+10FFFF. */
static bool begin(struct utf8 *self, uint8_t byte) {
  if (byte < 0xC2 || byte > 0xF4)
    return false;
  self->left = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  self->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
  self->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  return true;
}

bool utf8_feed(struct utf8 *self, const uint8_t *data, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (self->left) {
      if (data[i] < self->low || data[i] > self->high)
        return false;
      self->left--;
      self->low = 0x80;
      self->high = 0xBF;
      continue;
    }
    i += count_ascii(data + i, size - i);
    if (i < size && !begin(self, data[i]))
      return false;
  }
  return true;
}
