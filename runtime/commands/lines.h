#ifndef PGQ_LINES_H
#define PGQ_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/*
 * A file read line by line. A newline ends a line and is no part of it; the last line may lack it. All other bytes are
 * the line's, NUL and carriage return among them. A zeroed struct with `fd` and `longest` set is ready for use.
 */
struct lines {
  int fd;         /* stays the caller's */
  size_t longest; /* bytes that a line may have */
  int64_t count;  /* lines read so far */
  int64_t bytes;  /* that they took, newlines included */

  /* private */
  struct buffer buffer;
  size_t start, searched; /* where the next line begins, and up to where it is known to have no newline */
  bool ended;
};

enum lines_result { LINES_LINE, LINES_END, LINES_TOO_LONG, LINES_UNREADABLE };

/*
 * lines_next(lines, line, length): the next line, which stays valid until the next call. LINES_TOO_LONG is about the
 * line behind the last one counted; LINES_UNREADABLE leaves the reason in errno. Neither of them can be gone on from.
 */
enum lines_result lines_next(struct lines *lines, const void **line, size_t *length);

/* lines_free(lines): frees what has been read. */
void lines_free(struct lines *lines);

#endif
