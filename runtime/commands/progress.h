#ifndef PGQ_PROGRESS_H
#define PGQ_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* A line on stderr that tells how far the reading of a file has come; where stderr is no terminal, nothing at all. */
struct progress {
  bool visible;
  bool drawn;
  int64_t total;    /* bytes there are to read; 0: not known */
  int64_t began_us; /* as clock_us() */
  int64_t next_us;  /* not drawn again before that */
};

/*
 * progress_begin(progress, fd): the file is about to be read. How much there is of it is known of a regular file only;
 * with that the line has a bar, a percentage, and the time that is left at the speed so far.
 */
void progress_begin(struct progress *progress, int fd);

/* progress_update(progress, lines, bytes): that much has been read. Draws at most ten times a second. */
void progress_update(struct progress *progress, int64_t lines, int64_t bytes);

/* progress_done(progress, lines, bytes): all has been read and dealt with: draws the line for good. */
void progress_done(struct progress *progress, int64_t lines, int64_t bytes);

/* progress_leave(progress): ends the line as it stands, so that something else can be written to the terminal. */
void progress_leave(struct progress *progress);

#endif
