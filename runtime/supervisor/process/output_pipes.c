#include "output_pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "log.h"
#include "memory.h"
#include "output.h"

enum { READ_SIZE = 64 * 1024, PIPE_SIZE = 256 * 1024 };

/* While the output is full, nothing is read, so that a slow reader loses nothing; but for STALL_MOST_MS at most. */
enum { STALL_LOOK_MS = 20, STALL_MOST_MS = 500 };

/* The beginning of a line waits for its end, so that log lines do not get into it; but not for longer than this. */
enum { LINE_MS = 200, LINE_MOST = 64 * 1024 };

struct output_pipe {
  enum output_stream stream;
  int write_fd;
  int read_fd; /* of `pipe`; -1: there is no pipe */
  uv_pipe_t pipe;
  uv_timer_t stall_timer; /* active while nothing is read */
  uv_timer_t line_timer;  /* active while `bytes` has the beginning of a line */
  int64_t full_since_ms;
  struct buffer bytes; /* read and not passed on */
};

struct output_pipes {
  struct output_pipe pipes[OUTPUT_STREAMS];
  int open; /* handles that are not closed */
};

static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  struct output_pipe *pipe = handle->data;
  (void)wanted;
  *space = uv_buf_init(buffer_space(&pipe->bytes, READ_SIZE), READ_SIZE);
}

static void pass_on(struct output_pipe *pipe, size_t length) {
  output_write(pipe->stream, pipe->bytes.bytes, length);
  buffer_drop(&pipe->bytes, length);
}

static void on_line_time(uv_timer_t *timer) {
  struct output_pipe *pipe = timer->data;
  if (uv_is_active((uv_handle_t *)&pipe->stall_timer)) /* the rest of the line was not read */
    uv_timer_start(timer, on_line_time, LINE_MS, 0);
  else
    pass_on(pipe, pipe->bytes.length);
}

static void pass_on_lines(struct output_pipe *pipe) {
  const struct buffer *bytes = &pipe->bytes;
  const unsigned char *newline = memrchr(bytes->bytes, '\n', bytes->length);
  pass_on(pipe, newline ? (size_t)(newline - bytes->bytes) + 1 : bytes->length > LINE_MOST ? bytes->length : 0);
  if (bytes->length == 0)
    uv_timer_stop(&pipe->line_timer);
  else if (newline || !uv_is_active((uv_handle_t *)&pipe->line_timer))
    uv_timer_start(&pipe->line_timer, on_line_time, LINE_MS, 0);
}

static void on_read(uv_stream_t *handle, ssize_t length, const uv_buf_t *space);

static void on_look(uv_timer_t *timer) {
  struct output_pipe *pipe = timer->data;
  if (output_is_full(pipe->stream) && clock_ms() - pipe->full_since_ms < STALL_MOST_MS)
    return;
  uv_timer_stop(timer);
  uv_read_start((uv_stream_t *)&pipe->pipe, on_allocate, on_read);
}

static void on_read(uv_stream_t *handle, ssize_t length, const uv_buf_t *space) {
  struct output_pipe *pipe = handle->data;
  (void)space;
  if (length < 0) {
    uv_read_stop(handle);
    return;
  }
  pipe->bytes.length += (size_t)length;
  pass_on_lines(pipe);
  if (!output_is_full(pipe->stream)) {
    pipe->full_since_ms = 0;
    return;
  }
  if (pipe->full_since_ms == 0)
    pipe->full_since_ms = clock_ms();
  if (clock_ms() - pipe->full_since_ms >= STALL_MOST_MS)
    return;
  uv_read_stop(handle);
  uv_timer_start(&pipe->stall_timer, on_look, STALL_LOOK_MS, STALL_LOOK_MS);
}

static void open_pipe(struct output_pipe *pipe) {
  int ends[2];
  pipe->write_fd = pipe->stream == OUTPUT_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
  pipe->read_fd = -1;
  if (pipe2(ends, O_CLOEXEC) != 0)
    return;
  fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE);
  if (uv_pipe_open(&pipe->pipe, ends[0]) != 0) {
    close(ends[0]);
    close(ends[1]);
    return;
  }
  pipe->read_fd = ends[0];
  pipe->write_fd = ends[1];
  uv_read_start((uv_stream_t *)&pipe->pipe, on_allocate, on_read);
}

static void on_dropped(enum output_stream stream, int64_t dropped) {
  log_warn("lines of output were dropped, since they could not be written for a while",
           LOG_T("stream", stream == OUTPUT_STDOUT ? "stdout" : "stderr"), LOG_I("lines", dropped));
}

struct output_pipes *output_pipes_new(uv_loop_t *loop) {
  struct output_pipes *pipes = memory_new(sizeof *pipes);
  output_start(on_dropped);
  for (int i = 0; i < OUTPUT_STREAMS; i++) {
    struct output_pipe *pipe = &pipes->pipes[i];
    pipe->stream = (enum output_stream)i;
    uv_pipe_init(loop, &pipe->pipe, 0);
    uv_timer_init(loop, &pipe->stall_timer);
    uv_timer_init(loop, &pipe->line_timer);
    pipe->pipe.data = pipe->stall_timer.data = pipe->line_timer.data = pipe;
    open_pipe(pipe);
  }
  return pipes;
}

int output_pipes_fd(const struct output_pipes *pipes, int stream) {
  return pipes->pipes[stream == STDOUT_FILENO ? OUTPUT_STDOUT : OUTPUT_STDERR].write_fd;
}

/* A process that a handler has left behind may write for ever. */
static void read_rest(struct output_pipe *pipe) {
  ssize_t length;
  for (int i = 0; pipe->read_fd >= 0 && i < PIPE_SIZE / READ_SIZE * 4; i++) {
    length = read(pipe->read_fd, buffer_space(&pipe->bytes, READ_SIZE), READ_SIZE);
    if (length <= 0)
      break;
    pipe->bytes.length += (size_t)length;
  }
  pass_on(pipe, pipe->bytes.length);
  buffer_free(&pipe->bytes);
}

static void on_close(uv_handle_t *handle) {
  struct output_pipe *pipe = handle->data;
  struct output_pipes *pipes = (struct output_pipes *)(pipe - pipe->stream);
  if (--pipes->open == 0)
    free(pipes);
}

void output_pipes_free(struct output_pipes *pipes) {
  pipes->open = 3 * OUTPUT_STREAMS;
  for (int i = 0; i < OUTPUT_STREAMS; i++) {
    struct output_pipe *pipe = &pipes->pipes[i];
    read_rest(pipe);
    if (pipe->read_fd >= 0)
      close(pipe->write_fd);
    uv_close((uv_handle_t *)&pipe->pipe, on_close);
    uv_close((uv_handle_t *)&pipe->stall_timer, on_close);
    uv_close((uv_handle_t *)&pipe->line_timer, on_close);
  }
}
