/* buffer.h: bytes between a descriptor and Lua, taken at the front and added at the end. */
#ifndef MOONLET_BUFFER_H
#define MOONLET_BUFFER_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
  char *data;
  size_t start, end, capacity;
};

static inline size_t buffer_length(const struct buffer *b) { return b->end - b->start; }

static inline void buffer_clear(struct buffer *b) { b->start = b->end = 0; }

static inline void buffer_free(struct buffer *b) {
  free(b->data);
  *b = (struct buffer){0};
}

/* Makes room for `size` bytes more at the end; false: out of memory, and nothing is changed. */
static inline bool buffer_reserve(struct buffer *b, size_t size) {
  if (b->capacity - b->end >= size)
    return true;
  size_t length = buffer_length(b);
  if (b->start > 0 && b->capacity - length >= size && b->start >= length) {
    memcpy(b->data, b->data + b->start, length);
    b->start = 0;
    b->end = length;
    return true;
  }
  size_t capacity = b->capacity ? b->capacity : 256;
  while (capacity - b->end < size) {
    if (capacity > (size_t)-1 / 2)
      return false;
    capacity *= 2;
  }
  char *data = realloc(b->data, capacity);
  if (!data)
    return false;
  b->data = data;
  b->capacity = capacity;
  return true;
}

static inline bool buffer_append(struct buffer *b, const char *data, size_t size) {
  if (!buffer_reserve(b, size))
    return false;
  if (size > 0)
    memcpy(b->data + b->end, data, size);
  b->end += size;
  return true;
}

static inline void buffer_take(struct buffer *b, size_t size) {
  b->start += size;
  if (b->start == b->end)
    buffer_clear(b);
}

#endif
