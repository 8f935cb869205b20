/* The part of child.h that sends frames to the process, and takes those that come from it. */
#include "child_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "message.h"
#include "text.h"

enum { READ_SIZE = 64 * 1024 };

/* ── frames to the process ── */

struct sent {
  uv_write_t request;
  struct buffer bytes;
};

static void on_sent(uv_write_t *request, int status) {
  struct sent *sent = (struct sent *)request;
  (void)status; /* a process that cannot be written to is dying: on_death() follows */
  buffer_free(&sent->bytes);
  free(sent);
}

void child_send(struct child *child, struct buffer *frames) {
  if (child->state == CHILD_DEAD || frames->length == 0) {
    buffer_free(frames);
    return;
  }
  struct sent *sent = memory_new(sizeof *sent);
  sent->bytes = *frames;
  *frames = (struct buffer){0};
  uv_buf_t bytes = uv_buf_init((char *)sent->bytes.bytes, (unsigned)sent->bytes.length);
  if (uv_write(&sent->request, (uv_stream_t *)child->socket, &bytes, 1, on_sent) != 0)
    on_sent(&sent->request, 0);
}

void child_recall(struct child *child, uint32_t batch, uint32_t queue) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_RECALL);
  message_put_recall(&out, &(struct message_recall){.batch = batch, .queue = queue});
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_serve(struct child *child, const struct message_serve *serve) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_SERVE);
  message_put_serve(&out, serve);
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_cancel(struct child *child, uint32_t batch, uint32_t index) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_CANCEL);
  message_put_cancel(&out, &(struct message_cancel){.batch = batch, .index = index});
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_ask_to_leave(struct child *child) {
  struct buffer out = {0};
  frame_finish(&out, frame_begin(&out, FRAME_LEAVE));
  child_send(child, &out);
}

void child_configure(struct child *child, const struct sources *sources) {
  const struct child_start *start = child->start;
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_CONFIGURE);
  message_put_configure(&out,
                        &(struct message_configure){.conninfo = start->conninfo,
                                                    .most_memory = (uint64_t)start->max_memory,
                                                    .script = (uint32_t)start->script,
                                                    .argc = (uint32_t)start->argc,
                                                    .argv = start->argv,
                                                    .sources = sources ? sources->files : (struct message_sources){0}});
  frame_finish(&out, mark);
  child_send(child, &out);
}

/* ── frames from the process ── */

static bool take_sources(struct child *child, struct frame *frame) {
  struct message_sources files;
  if (child->reported || !child->reads_sources || !message_get_sources(frame, &files))
    return false;
  child->reads_sources = false;
  child->events->sources(child->owner, &files);
  message_free_sources(&files);
  return true;
}

static bool take_ready(struct child *child, struct frame *frame) {
  struct message_ready ready;
  if (child->reported || !message_get_ready(frame, &ready))
    return false;
  child->reported = child->loaded = true;
  child->events->ready(child->owner, &ready);
  message_free_ready(&ready);
  return true;
}

static bool take_broken(struct child *child, struct frame *frame) {
  size_t length;
  const char *message;
  if (child->reported || !message_get_broken(frame, &message, &length))
    return false;
  child->reported = true;
  child->events->broken(child->owner, message, length);
  return true;
}

static bool take_outcomes(struct child *child, struct frame *frame) {
  struct job_outcome outcome;
  int64_t now_us = clock_us();
  bool right = true;
  while (right && frame_left(frame) > 0) {
    right = message_get_outcome(frame, &outcome);
    outcome.came_us = now_us;
    right = right && child->events->outcome(child->owner, &outcome);
  }
  child->events->outcomes_end(child->owner);
  return right;
}

static bool take_stop(struct child *child, struct frame *frame) {
  if (!frame_end_ok(frame))
    return false;
  child->events->stop(child->owner);
  return true;
}

/* Logs a message from the executor's handlers, or from their callbacks. */
static bool take_log(struct child *child, struct frame *frame) {
  struct message_log log;
  char text[ERROR_TEXT_MOST + 1];
  if (!message_get_log(frame, &log))
    return false;
  size_t length = text_clean(text, sizeof text, log.text, log.length);
  log_line(log.level, "message from an executor", LOG_I("pid", child_pid(child)), LOG_B("message", text, length));
  return true;
}

static bool take_replace(struct child *child, struct frame *frame) {
  struct message_replace replace;
  char text[ERROR_TEXT_MOST + 1];
  if (!child->loaded || !message_get_replace(frame, &replace))
    return false;
  text_clean(text, sizeof text, replace.left, replace.length);
  child->events->replace(child->owner, replace.job, text);
  return true;
}

/* Returns false for a frame that an executor does not send. */
static bool take_frame(struct child *child, struct frame *frame) {
  switch (frame->type) {
  case FRAME_SOURCES:
    return take_sources(child, frame);
  case FRAME_READY:
    return take_ready(child, frame);
  case FRAME_BROKEN:
    return take_broken(child, frame);
  case FRAME_OUTCOMES:
    return take_outcomes(child, frame);
  case FRAME_STOP:
    return take_stop(child, frame);
  case FRAME_LOG:
    return take_log(child, frame);
  case FRAME_REPLACE:
    return take_replace(child, frame);
  default:
    return false;
  }
}

/* Takes all complete frames that have come in. A malformed one kills the process. */
static void take_frames(struct child *child) {
  size_t at = 0, size = 0;
  struct frame frame;
  int found = 0;
  while (!*child->fault &&
         (found = frame_next(child->in.bytes + at, child->in.length - at, FRAME_MOST_UP, &frame, &size)) != 0) {
    if (found < 0 || !take_frame(child, &frame)) {
      int type = found > 0 ? frame.type : 0;
      snprintf(child->fault, sizeof child->fault, "was killed: it sent a malformed frame (type %d)", type);
      log_error("an executor sent a malformed frame: killing it", LOG_I("pid", child_pid(child)), LOG_I("type", type));
      child_kill(child, NULL);
      break;
    }
    at += size;
  }
  buffer_drop(&child->in, at);
  if (at > 0 || child->in.length == 0)
    child->partial_since_ms = 0;
  if (child->in.length > 0 && child->partial_since_ms == 0)
    child->partial_since_ms = clock_ms();
}

static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  struct child *child = handle->data;
  (void)wanted;
  *space = uv_buf_init(buffer_space(&child->in, READ_SIZE), READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *space) {
  struct child *child = stream->data;
  (void)space;
  if (length < 0) { /* the process has closed its end: it is dying, or cannot be used any more */
    uv_read_stop(stream);
    if (child->state != CHILD_LEAVING) /* exiting takes a while when the process has much memory */
      child_kill(child, NULL);
    return;
  }
  child->in.length += (size_t)length;
  take_frames(child);
}

void child_listen(struct child *child) {
  uv_read_start((uv_stream_t *)child->socket, on_allocate, on_read);
}

void child_read_rest(struct child *child) {
  int fd;
  ssize_t length;
  if (uv_fileno((uv_handle_t *)child->socket, &fd) != 0)
    return;
  while ((length = recv(fd, buffer_space(&child->in, READ_SIZE), READ_SIZE, MSG_DONTWAIT)) > 0)
    child->in.length += (size_t)length;
  take_frames(child);
}
