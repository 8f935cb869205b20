#ifndef PGQ_BUFFER_H
#define PGQ_BUFFER_H

#include <stddef.h>
#include <string.h>

/*
 * A growing array of bytes. A zeroed struct is an empty buffer. Callers may read `bytes` and `length`; adding may move
 * `bytes`.
 */
struct buffer {
  unsigned char *bytes;
  size_t length;
  size_t capacity;
};

/* buffer_free(buffer): frees the bytes and leaves an empty buffer. */
void buffer_free(struct buffer *buffer);

/*
 * buffer_space(buffer, length): makes space for `length` more bytes and returns a pointer to it. The caller writes
 * there and adds the number of bytes written to `buffer->length`.
 */
void *buffer_space(struct buffer *buffer, size_t length);

/* buffer_reserve(buffer, length): makes space for `length` more bytes, and for none beyond these. */
void buffer_reserve(struct buffer *buffer, size_t length);

/* buffer_add(buffer, bytes, length): appends a copy of `length` bytes. Inline, since it is called for each field. */
static inline void buffer_add(struct buffer *buffer, const void *bytes, size_t length) {
  if (length == 0)
    return;
  void *end =
      buffer->capacity - buffer->length < length ? buffer_space(buffer, length) : buffer->bytes + buffer->length;
  memcpy(end, bytes, length);
  buffer->length += length;
}

/* buffer_drop(buffer, length): removes `length` bytes from the front. Frees the memory of a large buffer that is then
 * empty. */
void buffer_drop(struct buffer *buffer, size_t length);

#endif
