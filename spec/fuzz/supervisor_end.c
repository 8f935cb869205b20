/*
 * The supervisor's end of the socket: any bytes, as from an executor whose memory is no longer its own, go through the
 * code that reads them, into a batch as a hold has one.
 */

/* Its functions that take frames are nobody else's business, and a process is what this test can do without. */
#include "child.c"

#include "batch.h"
#include "duration.h"
#include "pieces.h"
#include "text.h"

enum { BATCH = 5, JOBS = 8 };

struct ending {
  struct child *child;
  struct batch batch;
  int ready;
};

/* ── the log, which this test does not read ── */

void log_setup(enum log_level level, enum log_format format) {
  (void)level, (void)format;
}

int log_wants(enum log_level level) {
  (void)level;
  return 1;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  (void)level, (void)message, (void)fields, (void)count;
}

struct log_field log_text_field(const char *key, const char *text) {
  return (struct log_field){.key = key, .text = text, .length = text ? strlen(text) : 0};
}

/* ── what a slot and its hold do ── */

/* Reads all bytes, so that a sanitizer sees those that are not there. */
static unsigned sum(const char *bytes, size_t length) {
  unsigned all = 0;
  for (size_t i = 0; i < length; i++)
    all += (unsigned char)bytes[i];
  return all;
}

static volatile unsigned seen;

static void on_ready(void *owner, const struct child_script *script) {
  struct ending *end = owner;
  EXPECT(end->ready++ == 0);
  for (uint32_t i = 0; i < script->queue_count; i++) {
    const struct child_queue *queue = &script->queues[i];
    seen += sum(queue->name, strlen(queue->name));
    EXPECT(queue->preserve_completed <= CHOICE_YES && queue->discard_failed <= CHOICE_YES && queue->timeout_ms >= -1);
  }
  for (uint32_t i = 0; i < script->setting_count; i++) {
    const struct child_setting *setting = &script->settings[i];
    seen += sum(setting->name, strlen(setting->name)) + sum(setting->value, strlen(setting->value));
  }
}

static void on_broken(void *owner, const char *message, size_t length) {
  (void)owner;
  seen += sum(message, length);
}

static bool on_outcome(void *owner, const struct child_outcome *outcome) {
  struct ending *end = owner;
  seen += sum(outcome->error, outcome->error_length) + sum(outcome->traceback, outcome->traceback_length);
  EXPECT(outcome->outcome >= OUTCOME_COMPLETE && outcome->outcome <= OUTCOME_UNRUN);
  EXPECT(outcome->duration_us <= (uint64_t)DURATION_MAX_MS * 1000 + 999);
  if (outcome->batch != BATCH)
    return outcome->batch < BATCH;
  return batch_end_job(&end->batch, outcome->index, outcome) || outcome->outcome == OUTCOME_UNRUN;
}

static void on_outcomes_end(void *owner) {
  struct ending *end = owner;
  int open = 0;
  for (int i = 0; i < end->batch.count; i++) {
    const struct job *job = &end->batch.jobs[i];
    open += job->outcome == OUTCOME_NONE;
    EXPECT(!job->error || text_is_utf8(job->error, strlen(job->error)));
    EXPECT(!job->traceback || text_is_utf8(job->traceback, strlen(job->traceback)));
  }
  EXPECT(open == end->batch.open);
}

static void on_stop(void *owner) {
  (void)owner;
}

static bool take(void *context) {
  struct ending *end = context;
  take_frames(end->child);
  return !*end->child->fault;
}

/* Jobs that wait for their outcomes; the last one has not been sent, and can have none. */
static void fill(struct batch *batch, struct queue *queue) {
  *batch = (struct batch){.number = BATCH, .count = JOBS, .open = JOBS, .sent = JOBS - 1};
  batch->jobs = memory_new(JOBS * sizeof *batch->jobs);
  for (uint32_t i = 0; i < JOBS; i++)
    batch->jobs[i] = (struct job){.id = 100 + i, .queue = queue, .attempt = 1, .position = (i + 1) % JOBS};
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
  static const struct child_events events = {
      .ready = on_ready, .broken = on_broken, .outcome = on_outcome, .outcomes_end = on_outcomes_end, .stop = on_stop};
  struct queue_list queues = {0};
  struct ending end = {0};
  fill(&end.batch, queue_find(&queues, "fuzzed"));
  end.child = child_new(NULL, NULL, &events, &end);
  pieces_round_trip(input, length);
  pieces_feed(input, length, &end.child->in, take, &end);
  EXPECT(end.batch.jobs[JOBS - 1].outcome == OUTCOME_NONE);
  batch_learn(&end.batch);
  batch_log(&end.batch);
  batch_clear(&end.batch);
  child_free(end.child);
  queue_list_free(&queues);
  return 0;
}
