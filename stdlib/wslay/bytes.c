/* bytes.c: memory that grows with its contents (see codec.h). */
#include <stdlib.h>
#include <string.h>

#include "codec.h"

bool bytes_reserve(struct bytes *self, size_t size) {
  if (self->capacity - self->length >= size)
    return true;
  size_t capacity = self->length + size;
  if (capacity < 2 * self->capacity)
    capacity = 2 * self->capacity;
  uint8_t *data = realloc(self->data, capacity);
  if (!data)
    return false;
  self->data = data;
  self->capacity = capacity;
  return true;
}

bool bytes_append(struct bytes *self, const uint8_t *data, size_t size) {
  if (!size)
    return true;
  if (!bytes_reserve(self, size))
    return false;
  memcpy(self->data + self->length, data, size);
  self->length += size;
  return true;
}

void bytes_free(struct bytes *self) {
  free(self->data);
  *self = (struct bytes){0};
}
