#ifndef PGQ_PROGRESS_H
#define PGQ_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* A line on stderr that shows how much of a file has been read. If stderr is not a terminal, nothing is written. */
struct progress {
  bool visible;
  bool drawn;
  int64_t total;    /* bytes to read; 0: unknown */
  int64_t began_us; /* clock_us() at progress_begin() */
  int64_t next_us;  /* clock_us() from which the line may be drawn again */
};

/*
 * progress_begin(progress, fd): to be called before the file is read. If it is a regular file, whose size is known, the
 * line has a bar, a percentage and an estimate of the remaining time.
 */
void progress_begin(struct progress *progress, int fd);

/* progress_update(progress, lines, bytes): `lines` lines and `bytes` bytes have been read so far. Draws at most ten
 * times a second. */
void progress_update(struct progress *progress, int64_t lines, int64_t bytes);

/* progress_count(progress, done, jobs): a command that does not read a file has changed `jobs` jobs so far: "retried
 * 2000 jobs". Draws at most ten times a second. */
void progress_count(struct progress *progress, const char *done, int64_t jobs);

/* progress_done(progress, lines, bytes): the file has been read and enqueued. Draws the line a last time. */
void progress_done(struct progress *progress, int64_t lines, int64_t bytes);

/* progress_leave(progress): ends the line, so that something else can be written to the terminal. */
void progress_leave(struct progress *progress);

#endif
