#ifndef PGQ_LINES_H
#define PGQ_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/*
 * Reads a file line by line. A line ends at a newline, which does not belong to it, or at the end of the file. All
 * other bytes belong to the line, even NUL and carriage return. A zeroed struct with `fd` and `longest` set is ready
 * for use.
 */
struct lines {
  int fd;         /* the caller closes it */
  size_t longest; /* the most bytes of a line */
  int64_t count;  /* number of lines read so far */
  int64_t bytes;  /* their size, with the newlines */

  /* private */
  struct buffer buffer;
  size_t start, searched; /* begin of the next line; end of the part that is known to have no newline */
  bool ended;
};

enum lines_result { LINES_LINE, LINES_END, LINES_TOO_LONG, LINES_UNREADABLE };

/*
 * lines_next(lines, line, length): reads the next line (LINES_LINE), which is valid until the next call. LINES_END:
 * there are no more. LINES_TOO_LONG: line number count + 1 has more than `longest` bytes. LINES_UNREADABLE: reading
 * failed, and errno has the reason. After the last two there must be no further call.
 */
enum lines_result lines_next(struct lines *lines, const void **line, size_t *length);

/* lines_free(lines): frees the memory of the lines, not the struct. */
void lines_free(struct lines *lines);

#endif
