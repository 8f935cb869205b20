#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* buffer_drop() frees an empty buffer larger than this, so that the memory of one large job is freed. */
enum { BUFFER_KEEP = 1 << 20 };

void buffer_free(struct buffer *buffer) {
  free(buffer->bytes);
  *buffer = (struct buffer){0};
}

void *buffer_space(struct buffer *buffer, size_t length) {
  if (buffer->capacity - buffer->length < length) {
    size_t wanted = buffer->length + length;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < wanted)
      capacity *= 2;
    buffer->bytes = memory_resize(buffer->bytes, capacity);
    buffer->capacity = capacity;
  }
  return buffer->bytes + buffer->length;
}

void buffer_reserve(struct buffer *buffer, size_t length) {
  if (buffer->capacity - buffer->length >= length)
    return;
  buffer->capacity = buffer->length + length;
  buffer->bytes = memory_resize(buffer->bytes, buffer->capacity);
}

void buffer_drop(struct buffer *buffer, size_t length) {
  buffer->length -= length;
  if (buffer->length == 0 && buffer->capacity > BUFFER_KEEP)
    buffer_free(buffer);
  else if (buffer->length > 0 && length > 0)
    memmove(buffer->bytes, buffer->bytes + length, buffer->length);
}
