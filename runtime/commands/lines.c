#include "lines.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 16 };

/* Reads more bytes, replacing the lines that were returned. Returns false if reading fails. */
static bool read_more(struct lines *lines) {
  ssize_t length;
  buffer_drop(&lines->buffer, lines->start);
  lines->searched -= lines->start;
  lines->start = 0;
  do
    length = read(lines->fd, buffer_space(&lines->buffer, READ_SIZE), READ_SIZE);
  while (length < 0 && errno == EINTR);
  lines->ended = length == 0;
  lines->buffer.length += length > 0 ? (size_t)length : 0;
  return length >= 0;
}

/* Returns the line of `length` bytes at the start, which occupies `size` bytes with its newline. */
static enum lines_result give(struct lines *lines, const void **line, size_t length, size_t size) {
  if (length > lines->longest)
    return LINES_TOO_LONG;
  *line = lines->buffer.bytes + lines->start;
  lines->start += size;
  lines->searched = lines->start;
  lines->count++;
  lines->bytes += (int64_t)size;
  return LINES_LINE;
}

/* Finds the newline of the line at the start; NULL if it has not been read yet. */
static const unsigned char *find_newline(const struct lines *lines) {
  const struct buffer *buffer = &lines->buffer;
  if (lines->searched == buffer->length)
    return NULL;
  return memchr(buffer->bytes + lines->searched, '\n', buffer->length - lines->searched);
}

enum lines_result lines_next(struct lines *lines, const void **line, size_t *length) {
  const struct buffer *buffer = &lines->buffer;
  for (;;) {
    const unsigned char *newline = find_newline(lines);
    *length = (newline ? (size_t)(newline - buffer->bytes) : buffer->length) - lines->start;
    if (newline)
      return give(lines, line, *length, *length + 1);
    if (*length > lines->longest)
      return LINES_TOO_LONG;
    if (lines->ended)
      return *length > 0 ? give(lines, line, *length, *length) : LINES_END;
    lines->searched = buffer->length;
    if (!read_more(lines))
      return LINES_UNREADABLE;
  }
}

void lines_free(struct lines *lines) {
  buffer_free(&lines->buffer);
}
