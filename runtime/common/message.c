#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "memory.h"

/* The least size of each item in bytes. A count of more items than the frame can hold is rejected before memory is
 * allocated for it. */
enum {
  TEXT_LEAST = 4,
  JOB_LEAST = 5 * 4 + 4 * 8 + 1 + 4,
  QUEUE_LEAST = TEXT_LEAST + 2 + 8 + 4 + 1,
  SERVE_QUEUE_LEAST = 4 + 8 + 1,
  SETTING_LEAST = 2 * TEXT_LEAST,
  SOURCE_LEAST = 3 * TEXT_LEAST,
};

/* Marks the frame as bad unless `right`. Returns whether the frame is still good. */
static bool check(struct frame *frame, bool right) {
  frame->bad = frame->bad || !right;
  return !frame->bad;
}

/* Reads a count of items of at least `least` bytes each. Returns 0 and marks the frame as bad if the items do not fit
 * into it. */
static uint32_t get_count(struct frame *frame, size_t least) {
  uint32_t count = get_u32(frame);
  return check(frame, count <= frame_left(frame) / least) ? count : 0;
}

static bool get_flag(struct frame *frame) {
  uint8_t flag = get_u8(frame);
  return check(frame, flag <= 1) && flag == 1;
}

static bool check_end(struct frame *frame) {
  return check(frame, frame_end_ok(frame));
}

/* ── SOURCES ── */

void message_put_sources(struct buffer *out, const struct message_sources *sources) {
  put_u32(out, sources->count);
  for (uint32_t i = 0; i < sources->count; i++) {
    put_text(out, sources->items[i].module);
    put_text(out, sources->items[i].path);
    put_bytes(out, sources->items[i].bytes, sources->items[i].length);
  }
}

/* Reads the list, but does not look for the end of the frame. */
static void get_sources(struct frame *frame, struct message_sources *sources) {
  size_t used = 0;
  *sources = (struct message_sources){.count = get_count(frame, SOURCE_LEAST)};
  sources->items = memory_new(((size_t)sources->count + 1) * sizeof *sources->items);
  char *memory = sources->memory = memory_new(frame_left(frame) + 1);
  for (uint32_t i = 0; i < sources->count; i++) {
    struct message_source *source = &sources->items[i];
    source->module = get_text(frame);
    source->path = get_text(frame);
    const char *bytes = get_bytes(frame, &source->length);
    source->bytes = memory + used;
    memcpy(memory + used, bytes, source->length);
    used += source->length;
  }
}

bool message_get_sources(struct frame *frame, struct message_sources *sources) {
  get_sources(frame, sources);
  if (check_end(frame))
    return true;
  message_free_sources(sources);
  return false;
}

void message_free_sources(struct message_sources *sources) {
  for (uint32_t i = 0; i < sources->count; i++) {
    free(sources->items[i].module);
    free(sources->items[i].path);
  }
  free(sources->items);
  free(sources->memory);
  *sources = (struct message_sources){0};
}

/* ── CONFIGURE ── */

void message_put_configure(struct buffer *out, const struct message_configure *configure) {
  put_text(out, configure->conninfo);
  put_u64(out, configure->most_memory);
  put_u32(out, configure->script);
  put_u32(out, configure->argc);
  for (uint32_t i = 0; i < configure->argc; i++)
    put_text(out, configure->argv[i]);
  message_put_sources(out, &configure->sources);
}

bool message_get_configure(struct frame *frame, struct message_configure *configure) {
  *configure = (struct message_configure){.conninfo = get_text(frame)};
  configure->most_memory = get_u64(frame);
  configure->script = get_u32(frame);
  configure->argc = get_count(frame, TEXT_LEAST);
  configure->argv = memory_new(((size_t)configure->argc + 1) * sizeof *configure->argv);
  for (uint32_t i = 0; i < configure->argc; i++)
    configure->argv[i] = get_text(frame);
  check(frame, configure->script < configure->argc);
  get_sources(frame, &configure->sources);
  if (check_end(frame))
    return true;
  message_free_configure(configure);
  return false;
}

void message_free_configure(struct message_configure *configure) {
  for (uint32_t i = 0; i < configure->argc; i++)
    free(configure->argv[i]);
  free(configure->argv);
  message_free_sources(&configure->sources);
  free((char *)configure->conninfo);
  *configure = (struct message_configure){0};
}

/* ── JOBS ── */

void message_put_jobs(struct buffer *out, const struct message_jobs *jobs) {
  put_u32(out, jobs->batch);
  put_u32(out, jobs->count);
}

void message_put_job(struct buffer *out, const struct message_job *job) {
  put_u32(out, job->index);
  put_u32(out, job->position);
  put_u32(out, job->queue);
  put_i64(out, job->id);
  put_u32(out, job->attempt);
  put_u32(out, job->retries_left);
  put_f64(out, job->created_at);
  put_f64(out, job->run_after);
  put_u8(out, job->settles);
  put_i64(out, job->lease);
  put_bytes(out, job->data, job->data_length);
}

bool message_get_job(struct frame *frame, struct message_job *job) {
  job->index = get_u32(frame);
  job->position = get_u32(frame);
  job->queue = get_u32(frame);
  job->id = get_i64(frame);
  job->attempt = get_u32(frame);
  job->retries_left = get_u32(frame);
  job->created_at = get_f64(frame);
  job->run_after = get_f64(frame);
  job->settles = get_flag(frame);
  job->lease = get_i64(frame);
  job->data = get_bytes(frame, &job->data_length);
  return check(frame, job->position > 0 && job->data_length <= JOB_DATA_MOST);
}

/* Reads the jobs from a copy of the frame. */
static bool check_jobs(struct frame frame, struct message_jobs *jobs) {
  struct message_job job;
  uint32_t last = 0;
  for (uint32_t i = 0; i < jobs->count && message_get_job(&frame, &job); i++) {
    check(&frame, job.position > last);
    last = job.position;
    if (job.queue > jobs->last_queue)
      jobs->last_queue = job.queue;
  }
  return frame_end_ok(&frame);
}

bool message_get_jobs(struct frame *frame, struct message_jobs *jobs) {
  jobs->batch = get_u32(frame);
  jobs->count = get_count(frame, JOB_LEAST);
  jobs->last_queue = 0;
  return check(frame, jobs->count > 0 && check_jobs(*frame, jobs));
}

/* ── RECALL ── */

void message_put_recall(struct buffer *out, const struct message_recall *recall) {
  put_u32(out, recall->batch);
  put_u32(out, recall->queue);
}

bool message_get_recall(struct frame *frame, struct message_recall *recall) {
  recall->batch = get_u32(frame);
  recall->queue = get_u32(frame);
  return check_end(frame);
}

/* ── READY ── */

void message_put_ready(struct buffer *out, const struct message_ready *ready) {
  put_u32(out, ready->queue_count);
  for (uint32_t i = 0; i < ready->queue_count; i++) {
    const struct message_queue *queue = &ready->queues[i];
    put_text(out, queue->name);
    put_u8(out, (uint8_t)queue->preserve_completed);
    put_u8(out, (uint8_t)queue->discard_failed);
    put_i64(out, queue->timeout_ms);
    put_u32(out, queue->concurrency);
    put_u8(out, queue->transactional);
  }
  put_u32(out, ready->setting_count);
  for (uint32_t i = 0; i < ready->setting_count; i++) {
    put_text(out, ready->settings[i].name);
    put_text(out, ready->settings[i].value);
  }
}

static enum choice get_choice(struct frame *frame) {
  uint8_t choice = get_u8(frame);
  return check(frame, choice <= CHOICE_YES) ? choice : CHOICE_UNSET;
}

static void get_queue(struct frame *frame, struct message_queue *queue) {
  queue->name = get_text(frame);
  queue->preserve_completed = get_choice(frame);
  queue->discard_failed = get_choice(frame);
  queue->timeout_ms = get_i64(frame);
  queue->concurrency = get_u32(frame);
  queue->transactional = get_flag(frame);
  check(frame, queue->timeout_ms >= -1 && queue->timeout_ms <= DURATION_MAX_MS);
}

bool message_get_ready(struct frame *frame, struct message_ready *ready) {
  *ready = (struct message_ready){.queue_count = get_count(frame, QUEUE_LEAST)};
  ready->queues = memory_new(ready->queue_count * sizeof *ready->queues);
  for (uint32_t i = 0; i < ready->queue_count; i++)
    get_queue(frame, &ready->queues[i]);
  ready->setting_count = get_count(frame, SETTING_LEAST);
  ready->settings = memory_new(ready->setting_count * sizeof *ready->settings);
  for (uint32_t i = 0; i < ready->setting_count; i++) {
    ready->settings[i].name = get_text(frame);
    ready->settings[i].value = get_text(frame);
  }
  if (check_end(frame))
    return true;
  message_free_ready(ready);
  return false;
}

void message_free_ready(struct message_ready *ready) {
  for (uint32_t i = 0; i < ready->queue_count; i++)
    free(ready->queues[i].name);
  for (uint32_t i = 0; i < ready->setting_count; i++) {
    free(ready->settings[i].name);
    free(ready->settings[i].value);
  }
  free(ready->queues);
  free(ready->settings);
  *ready = (struct message_ready){0};
}

/* ── SERVE ── */

void message_put_serve(struct buffer *out, const struct message_serve *serve) {
  put_u32(out, serve->concurrency);
  put_u32(out, serve->pool);
  put_u8(out, serve->prepare);
  put_text(out, serve->version);
  put_u32(out, serve->queue_count);
  for (uint32_t i = 0; i < serve->queue_count; i++) {
    put_u32(out, serve->queues[i].concurrency);
    put_i64(out, serve->queues[i].timeout_ms);
    put_u8(out, serve->queues[i].preserve_completed);
  }
}

bool message_get_serve(struct frame *frame, struct message_serve *serve) {
  *serve = (struct message_serve){.concurrency = get_u32(frame)};
  serve->pool = get_u32(frame);
  serve->prepare = get_flag(frame);
  serve->version = get_text(frame);
  serve->queue_count = get_count(frame, SERVE_QUEUE_LEAST);
  serve->queues = memory_new(serve->queue_count * sizeof *serve->queues);
  for (uint32_t i = 0; i < serve->queue_count; i++) {
    serve->queues[i].concurrency = get_u32(frame);
    serve->queues[i].timeout_ms = get_i64(frame);
    serve->queues[i].preserve_completed = get_flag(frame);
    check(frame, serve->queues[i].timeout_ms >= 0 && serve->queues[i].timeout_ms <= DURATION_MAX_MS);
  }
  check(frame, serve->concurrency > 0 && serve->pool > 0);
  if (check_end(frame))
    return true;
  message_free_serve(serve);
  return false;
}

void message_free_serve(struct message_serve *serve) {
  free(serve->version);
  free(serve->queues);
  *serve = (struct message_serve){0};
}

/* ── CANCEL ── */

void message_put_cancel(struct buffer *out, const struct message_cancel *cancel) {
  put_u32(out, cancel->batch);
  put_u32(out, cancel->index);
}

bool message_get_cancel(struct frame *frame, struct message_cancel *cancel) {
  cancel->batch = get_u32(frame);
  cancel->index = get_u32(frame);
  return check_end(frame);
}

/* ── LOG ── */

void message_put_log(struct buffer *out, const struct message_log *log) {
  put_u8(out, (uint8_t)log->level);
  put_bytes(out, log->text, log->length);
}

bool message_get_log(struct frame *frame, struct message_log *log) {
  uint8_t level = get_u8(frame);
  log->level = level;
  log->text = get_bytes(frame, &log->length);
  return check(frame, level <= LOG_ERROR) && check_end(frame);
}

/* ── REPLACE ── */

void message_put_replace(struct buffer *out, const struct message_replace *replace) {
  put_i64(out, replace->job);
  put_bytes(out, replace->left, replace->length);
}

bool message_get_replace(struct frame *frame, struct message_replace *replace) {
  replace->job = get_i64(frame);
  replace->left = get_bytes(frame, &replace->length);
  return check_end(frame);
}

/* ── BROKEN ── */

void message_put_broken(struct buffer *out, const void *message, size_t length) {
  put_bytes(out, message, length);
}

bool message_get_broken(struct frame *frame, const char **message, size_t *length) {
  *message = get_bytes(frame, length);
  return check_end(frame);
}

/* ── OUTCOMES ── */

void message_put_outcome(struct buffer *out, const struct job_outcome *outcome) {
  put_u32(out, outcome->batch);
  put_u32(out, outcome->index);
  put_u8(out, (uint8_t)outcome->outcome);
  put_u8(out, outcome->backoff);
  put_u8(out, outcome->discard);
  put_u8(out, outcome->waited);
  put_i64(out, outcome->wait_ms);
  put_u64(out, outcome->duration_us);
  put_u64(out, outcome->busy_us);
  put_bytes(out, outcome->error, outcome->error_length);
  put_bytes(out, outcome->traceback, outcome->traceback_length);
}

bool message_get_outcome(struct frame *frame, struct job_outcome *outcome) {
  outcome->batch = get_u32(frame);
  outcome->index = get_u32(frame);
  uint8_t kind = get_u8(frame);
  outcome->outcome = kind;
  outcome->backoff = get_flag(frame);
  outcome->discard = get_flag(frame);
  outcome->waited = get_flag(frame);
  outcome->wait_ms = get_i64(frame);
  outcome->duration_us = get_u64(frame);
  outcome->busy_us = get_u64(frame);
  outcome->error = get_bytes(frame, &outcome->error_length);
  outcome->traceback = get_bytes(frame, &outcome->traceback_length);
  return check(frame, kind >= OUTCOME_COMPLETE && kind <= OUTCOME_SETTLED &&
                          outcome->duration_us / 1000 <= DURATION_MAX_MS && outcome->busy_us <= outcome->duration_us &&
                          outcome->wait_ms >= -1 && outcome->wait_ms <= DURATION_MAX_MS &&
                          (outcome->wait_ms >= 0 || kind != OUTCOME_SNOOZE));
}
