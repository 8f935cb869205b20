/* What comes in from the supervisor: frames, and the memory for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor_state.h"
#include "memory.h"
#include "outbox.h"
#include "protocol.h"

enum { READ_SIZE = 256 * 1024 };

/* The memory for larger frames is allocated exactly, and may be missing. */
enum { LARGE_FRAME = MEMORY_LARGE };

/* Whether there is memory for a frame of this size is tried, together with a margin. For frames below half of
 * LARGE_FRAME the trial is served from memory that the process has already, as long as it has any. */
enum { TRIED_LEAST = 64 * 1024, MARGIN = LARGE_FRAME / 2 };

/* Whether there is enough memory for the bytes of a frame, and a little more: the process ends when its own code gets
 * none. */
static bool has_memory(struct executor *e, size_t length) {
  if (length < TRIED_LEAST || memory_has(length + MARGIN))
    return true;
  if (e->script)
    script_collect(e->script);
  return memory_has(length + MARGIN);
}

/* Refuses the job of a frame that has no more than one, of which only the first bytes may have come. Returns false if
 * it is no such frame. */
static bool refuse_job(struct executor *e, struct frame frame, size_t length) {
  struct message_job job = {0};
  uint32_t batch = get_u32(&frame), count = get_u32(&frame);
  job.index = get_u32(&frame);
  job.position = get_u32(&frame);
  job.data_length = length;
  if (frame.type != FRAME_JOBS || frame.bad || count != 1 || job.position == 0 || !e->tasks)
    return false;
  task_list_refuse(e->tasks, batch, &job);
  outbox_flush(e->outbox);
  return true;
}

static bool take_jobs(struct executor *e, struct frame *frame) {
  size_t length = frame_left(frame);
  if (!has_memory(e, length)) {
    if (refuse_job(e, *frame, length))
      return true;
    bool right = e->tasks && task_list_refuse_all(e->tasks, frame);
    outbox_flush(e->outbox);
    return right;
  }
  if (!e->tasks || !task_list_add(e->tasks, frame))
    return false;
  executor_work(e);
  return true;
}

static bool take_recall(struct executor *e, struct frame *frame) {
  struct message_recall recall;
  if (!e->tasks || !message_get_recall(frame, &recall))
    return false;
  task_list_recall(e->tasks, recall.batch, recall.queue);
  executor_work(e);
  return true;
}

static bool take_cancel(struct executor *e, struct frame *frame) {
  struct message_cancel cancel;
  if (!e->tasks || !message_get_cancel(frame, &cancel))
    return false;
  task_list_cancel(e->tasks, cancel.batch, cancel.index);
  executor_work(e);
  return true;
}

/* Returns false for a frame that is malformed or comes at the wrong time. */
static bool take_frame(struct executor *e, struct frame *frame) {
  switch (frame->type) {
  case FRAME_CONFIGURE:
    return executor_configure(e, frame);
  case FRAME_SERVE:
    return e->tasks && task_list_serve(e->tasks, frame);
  case FRAME_JOBS:
    return take_jobs(e, frame);
  case FRAME_RECALL:
    return take_recall(e, frame);
  case FRAME_CANCEL:
    return take_cancel(e, frame);
  case FRAME_LEAVE:
    executor_leave(e);
    return frame_end_ok(frame);
  default:
    return false;
  }
}

/* Handles all complete frames that have come in. After a malformed one the executor exits. */
static void take_frames(struct executor *e) {
  struct frame frame;
  size_t at = 0, size = 0;
  int found = 0;
  while (!e->leaving &&
         (found = frame_next(e->in.bytes + at, e->in.length - at, FRAME_MOST_DOWN, &frame, &size)) != 0) {
    if (found < 0 || !take_frame(e, &frame)) {
      fprintf(stderr, "pgq-lua executor: exiting after a malformed frame (type %d) from the supervisor\n",
              found > 0 ? frame.type : 0);
      e->status = STATUS_MISUSED;
      executor_leave(e);
      break;
    }
    at += size;
  }
  buffer_drop(&e->in, at);
}

/* Of a frame that has begun to come in: how many bytes are to come; 0: it is not known. */
static size_t count_missing(const struct executor *e) {
  uint32_t follows;
  if (e->in.length < sizeof follows + 1)
    return 0;
  memcpy(&follows, e->in.bytes, sizeof follows);
  size_t size = sizeof follows + follows;
  return size <= FRAME_MOST_DOWN && size > e->in.length ? size - e->in.length : 0;
}

/*
 * Makes room for the rest of a large frame, exactly. If there is no memory for it, its job is refused, and the rest
 * will be thrown away as it comes in.
 */
static void make_room(struct executor *e, size_t missing) {
  struct frame head = {.type = e->in.bytes[sizeof(uint32_t)], .at = e->in.bytes + sizeof(uint32_t) + 1};
  head.end = e->in.bytes + e->in.length;
  if (e->in.capacity - e->in.length >= missing)
    return;
  if (has_memory(e, e->in.length + missing)) {
    buffer_reserve(&e->in, missing);
  } else if (refuse_job(e, head, e->in.length + missing)) {
    e->to_skip = missing;
    buffer_free(&e->in);
  }
}

static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  static char skipped[READ_SIZE];
  struct executor *e = handle->data;
  (void)wanted;
  size_t missing = e->to_skip > 0 ? 0 : count_missing(e);
  bool large = missing > 0 && e->in.length + missing > LARGE_FRAME;
  if (large)
    make_room(e, missing);
  if (e->to_skip > 0) {
    *space = uv_buf_init(skipped, (unsigned)(e->to_skip < sizeof skipped ? e->to_skip : sizeof skipped));
    return;
  }
  if (large) {
    *space = uv_buf_init(buffer_space(&e->in, missing), (unsigned)missing);
    return;
  }
  *space = uv_buf_init(buffer_space(&e->in, READ_SIZE), READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *space) {
  struct executor *e = stream->data;
  (void)space;
  if (length < 0) { /* the supervisor has ended, and its claims with it: other workers may run these jobs now */
    executor_leave(e);
    return;
  }
  if (e->to_skip > 0) {
    e->to_skip -= (size_t)length;
    return;
  }
  e->in.length += (size_t)length;
  take_frames(e);
}

bool executor_listen(struct executor *e) {
  return uv_pipe_open(&e->socket, EXECUTOR_SOCKET) == 0 &&
         uv_read_start((uv_stream_t *)&e->socket, on_allocate, on_read) == 0;
}
