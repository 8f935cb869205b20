#ifndef PGQ_BUFFER_H
#define PGQ_BUFFER_H

#include <stddef.h>
#include <string.h>

/*
 * A growing run of bytes. `bytes` and `length` may be read at any time; `bytes` moves whenever something is added.
 * A zeroed struct is an empty buffer.
 */
struct buffer {
  unsigned char *bytes;
  size_t length;
  size_t capacity;
};

/* buffer_free(buffer): frees the bytes and leaves an empty buffer; on an empty one it does nothing. */
void buffer_free(struct buffer *buffer);

/*
 * buffer_space(buffer, length): room for `length` more bytes behind the end; returns where they go. The caller writes
 * there and then adds what it wrote to `buffer->length`.
 */
void *buffer_space(struct buffer *buffer, size_t length);

/* buffer_add(buffer, bytes, length): appends a copy of `length` bytes. Here, since it is called for each field. */
static inline void buffer_add(struct buffer *buffer, const void *bytes, size_t length) {
  if (length == 0)
    return;
  void *end =
      buffer->capacity - buffer->length < length ? buffer_space(buffer, length) : buffer->bytes + buffer->length;
  memcpy(end, bytes, length);
  buffer->length += length;
}

/* buffer_drop(buffer, length): removes `length` bytes from the front; gives back memory that a big frame had needed. */
void buffer_drop(struct buffer *buffer, size_t length);

#endif
