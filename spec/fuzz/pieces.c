#include "pieces.h"

#include <string.h>

#include "frame.h"
#include "memory.h"
#include "message.h"

static size_t piece_length(const uint8_t *at, size_t left, size_t step) {
  uint32_t follows = 0;
  if (step == 0 && left >= sizeof follows) {
    memcpy(&follows, at, sizeof follows);
    step = sizeof follows + (size_t)follows;
  }
  return step > 0 && step < left ? step : left;
}

static void add_exactly(struct buffer *in, const uint8_t *bytes, size_t length) {
  struct buffer grown = {.length = in->length + length, .capacity = in->length + length};
  grown.bytes = memory_new(grown.length);
  if (in->length > 0)
    memcpy(grown.bytes, in->bytes, in->length);
  memcpy(grown.bytes + in->length, bytes, length);
  buffer_free(in);
  *in = grown;
}

void pieces_feed(const uint8_t *input, size_t length, struct buffer *in, bool (*take)(void *context), void *context) {
  if (length == 0)
    return;
  size_t step = input[0], size;
  for (size_t at = 1; at < length; at += size) {
    size = piece_length(input + at, length - at, step);
    add_exactly(in, input + at, size);
    if (!take(context))
      return;
  }
}

static bool again_configure(struct frame *frame, struct buffer *out) {
  struct message_configure configure;
  if (!message_get_configure(frame, &configure))
    return false;
  message_put_configure(out, &configure);
  message_free_configure(&configure);
  return true;
}

static bool again_sources(struct frame *frame, struct buffer *out) {
  struct message_sources sources;
  if (!message_get_sources(frame, &sources))
    return false;
  message_put_sources(out, &sources);
  message_free_sources(&sources);
  return true;
}

static bool again_jobs(struct frame *frame, struct buffer *out) {
  struct message_jobs jobs;
  struct message_job job;
  if (!message_get_jobs(frame, &jobs))
    return false;
  EXPECT(jobs.count > 0);
  message_put_jobs(out, &jobs);
  for (uint32_t i = 0; i < jobs.count; i++) {
    EXPECT(message_get_job(frame, &job));
    message_put_job(out, &job);
  }
  EXPECT(frame_end_ok(frame));
  return true;
}

static bool again_recall(struct frame *frame, struct buffer *out) {
  struct message_recall recall;
  if (!message_get_recall(frame, &recall))
    return false;
  message_put_recall(out, &recall);
  return true;
}

static bool again_ready(struct frame *frame, struct buffer *out) {
  struct message_ready ready;
  if (!message_get_ready(frame, &ready))
    return false;
  message_put_ready(out, &ready);
  message_free_ready(&ready);
  return true;
}

static bool again_serve(struct frame *frame, struct buffer *out) {
  struct message_serve serve;
  if (!message_get_serve(frame, &serve))
    return false;
  message_put_serve(out, &serve);
  message_free_serve(&serve);
  return true;
}

static bool again_cancel(struct frame *frame, struct buffer *out) {
  struct message_cancel cancel;
  if (!message_get_cancel(frame, &cancel))
    return false;
  message_put_cancel(out, &cancel);
  return true;
}

static bool again_log(struct frame *frame, struct buffer *out) {
  struct message_log log;
  if (!message_get_log(frame, &log))
    return false;
  message_put_log(out, &log);
  return true;
}

static bool again_broken(struct frame *frame, struct buffer *out) {
  const char *message;
  size_t length;
  if (!message_get_broken(frame, &message, &length))
    return false;
  message_put_broken(out, message, length);
  return true;
}

static bool again_outcomes(struct frame *frame, struct buffer *out) {
  struct job_outcome outcome;
  while (frame_left(frame) > 0) {
    if (!message_get_outcome(frame, &outcome))
      return false;
    message_put_outcome(out, &outcome);
  }
  return true;
}

void pieces_round_trip(const uint8_t *input, size_t length) {
  static bool (*const again[])(struct frame *, struct buffer *) = {
      [FRAME_CONFIGURE] = again_configure, [FRAME_JOBS] = again_jobs,     [FRAME_RECALL] = again_recall,
      [FRAME_READY] = again_ready,         [FRAME_BROKEN] = again_broken, [FRAME_OUTCOMES] = again_outcomes,
      [FRAME_SERVE] = again_serve,         [FRAME_CANCEL] = again_cancel, [FRAME_LOG] = again_log,
      [FRAME_SOURCES] = again_sources,
  };
  struct frame frame;
  size_t size;
  for (size_t at = 1; at < length && frame_next(input + at, length - at, length, &frame, &size) == 1; at += size) {
    struct buffer out = {0};
    const unsigned char *fields = frame.at;
    size_t left = frame_left(&frame);
    if (frame.type >= sizeof again / sizeof again[0] || !again[frame.type])
      continue;
    if (again[frame.type](&frame, &out))
      EXPECT(frame_end_ok(&frame) && out.length == left && (left == 0 || memcmp(out.bytes, fields, left) == 0));
    else
      EXPECT(frame.bad && !frame_end_ok(&frame));
    buffer_free(&out);
  }
}
