#ifndef PGQ_OUTPUT_PIPES_H
#define PGQ_OUTPUT_PIPES_H

#include <uv.h>

/*
 * The stdout and stderr of all executors: two pipes, which the supervisor reads all the time and passes on with
 * output_write(). So neither an executor nor a process that a handler starts is blocked for long by a reader that has
 * stopped. Such a reader blocks them for half a second; then their lines are dropped.
 */
struct output_pipes;

/* output_pipes_new(loop): makes the pipes, and calls output_start(). To be called once. */
struct output_pipes *output_pipes_new(uv_loop_t *loop);

/* output_pipes_fd(pipes, stream): the end that executors write to; stream is 1 (stdout) or 2 (stderr). It is that
 * number itself if no pipe could be made. */
int output_pipes_fd(const struct output_pipes *pipes, int stream);

/* output_pipes_free(pipes): passes on what has been written, and closes the pipes. The memory is freed in the loop's
 * next turn. */
void output_pipes_free(struct output_pipes *pipes);

#endif
