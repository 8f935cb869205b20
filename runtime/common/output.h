#ifndef PGQ_OUTPUT_H
#define PGQ_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The worker's stdout and stderr. A process that should read them may have stopped, a disk may be full: no write may
 * block the caller. So a thread for each writes what stands in a buffer of bounded size. (O_NONBLOCK is no way: it
 * would also apply to other processes that have the same terminal or pipe open.) While the buffer is full, lines are
 * dropped and counted.
 *
 * Before output_start(), and if a thread cannot be started, writes are made by the caller; then a write that would
 * block is dropped, too, after output_start().
 */
enum output_stream { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_STREAMS };

/* Called by a thread when a stream can be written again after lines were dropped. May write. */
typedef void output_report(enum output_stream stream, int64_t dropped);

/* output_start(report): starts the threads. To be called once. */
void output_start(output_report *report);

/* output_write(stream, bytes, length): writes the bytes, or drops lines of them if the buffer is full. */
void output_write(enum output_stream stream, const void *bytes, size_t length);

/* output_is_full(stream): whether the next write would drop lines that could be written later: a caller that can wait
 * for a moment should do so. False while lines are being dropped. */
bool output_is_full(enum output_stream stream);

/* output_is_stalled(stream, most_ms): whether bytes wait, and nothing could be written for `most_ms`. */
bool output_is_stalled(enum output_stream stream, int64_t most_ms);

/* output_stop(stalled_ms, most_ms): waits until all is written, for at most `most_ms`, and no longer than `stalled_ms`
 * after anything was written. What is left is lost. Ends the threads. */
void output_stop(int64_t stalled_ms, int64_t most_ms);

#endif
