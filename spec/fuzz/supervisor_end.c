/*
 * The supervisor's end of the socket: any bytes, as from an executor whose memory is no longer its own, go through the
 * code that reads them, into a batch as a hold has one, and into a list of leases.
 */

/* Included, because its functions that take frames are static, and because this test has no process. */
#include "child.c"
#include "child_frames.c"
#include "child_page.c"

#include "batch.h"
#include "duration.h"
#include "lease.h"
#include "pieces.h"
#include "settle.h"
#include "text.h"

/* The jobs have the ids from FIRST_ID on; the last one has not been sent. Those up to BEGUN have begun. */
enum { BATCH = 5, JOBS = 8, FIRST_ID = 100, BEGUN = 5, TOKEN = 7000, LEASE_MS = 60000, WAIT_MS = 1234 };

/* What happens meanwhile, in this order: once for each STOP. */
enum occasion { TIME_IS_UP, LEASE_IS_LOST, JOB_IS_CANCELLED, OUTCOMES_ARE_COLLECTED, CHILD_DIES, NOTHING_MORE };

struct ending {
  struct child *child;
  struct batch batch;       /* of the hold */
  struct lease_list leased; /* of those that have outlived it */
  struct batch settling;
  enum occasion next;
  int reports, written;
  bool has_sources;
  struct job_outcome *foreseen; /* what is in the frames at hand */
  int foreseen_count, told;
  int frames, frames_told; /* of outcomes */
};

static volatile unsigned seen;

/* Reads all bytes, so that a sanitizer sees those that are not there. */
static unsigned sum(const char *bytes, size_t length) {
  unsigned all = 0;
  for (size_t i = 0; i < length; i++)
    all += (unsigned char)bytes[i];
  return all;
}

/* ── the log ── */

void log_setup(enum log_level level, enum log_format format) {
  (void)level, (void)format;
}

int log_wants(enum log_level level) {
  (void)level;
  return 1;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  EXPECT(level <= LOG_ERROR);
  seen += sum(message, strlen(message));
  for (size_t i = 0; i < count; i++)
    if (fields[i].key && fields[i].kind == LOG_FIELD_TEXT) {
      seen += sum(fields[i].text, fields[i].length);
      EXPECT(text_is_utf8(fields[i].text, fields[i].length) && fields[i].length <= ERROR_TEXT_MOST);
    }
}

struct log_field log_text_field(const char *key, const char *text) {
  return (struct log_field){.key = text ? key : NULL, .text = text, .length = text ? strlen(text) : 0};
}

/* ── what a slot does ── */

/* Only a process that was told to read the files reports them, once and first. */
static void on_sources(void *owner, struct message_sources *files) {
  struct ending *end = owner;
  EXPECT(end->reports == 0 && !end->has_sources);
  end->has_sources = true;
  for (uint32_t i = 0; i < files->count; i++) {
    const struct message_source *file = &files->items[i];
    seen += sum(file->module, strlen(file->module)) + sum(file->path, strlen(file->path));
    seen += sum(file->bytes, file->length);
  }
}

static void on_ready(void *owner, const struct message_ready *script) {
  struct ending *end = owner;
  EXPECT(end->reports++ == 0);
  for (uint32_t i = 0; i < script->queue_count; i++) {
    const struct message_queue *queue = &script->queues[i];
    seen += sum(queue->name, strlen(queue->name));
    EXPECT(queue->preserve_completed <= CHOICE_YES && queue->discard_failed <= CHOICE_YES);
    EXPECT(queue->timeout_ms >= -1 && queue->timeout_ms <= DURATION_MAX_MS);
  }
  for (uint32_t i = 0; i < script->setting_count; i++) {
    const struct message_setting *setting = &script->settings[i];
    seen += sum(setting->name, strlen(setting->name)) + sum(setting->value, strlen(setting->value));
  }
}

static void on_broken(void *owner, const char *message, size_t length) {
  struct ending *end = owner;
  EXPECT(end->reports++ == 0);
  seen += sum(message, length);
}

/* ── outcomes: each outcome in the frames is reported once and in order ── */

static void foresee_outcomes(struct ending *end, struct frame *frame) {
  struct job_outcome outcome;
  end->frames++;
  while (frame_left(frame) > 0 && message_get_outcome(frame, &outcome)) {
    end->foreseen = memory_resize(end->foreseen, (size_t)(end->foreseen_count + 1) * sizeof outcome);
    end->foreseen[end->foreseen_count++] = outcome;
  }
}

static void foresee(struct ending *end) {
  const struct buffer *in = &end->child->in;
  struct frame frame;
  size_t size;
  end->foreseen_count = end->told = end->frames = end->frames_told = 0;
  for (size_t at = 0; frame_next(in->bytes + at, in->length - at, FRAME_MOST_UP, &frame, &size) == 1; at += size)
    if (frame.type == FRAME_OUTCOMES)
      foresee_outcomes(end, &frame);
}

static bool is_same(const char *text, size_t length, const char *sent, size_t sent_length) {
  return length == sent_length && memcmp(text, sent, length) == 0;
}

static void check_told(struct ending *end, const struct job_outcome *told) {
  EXPECT(end->told < end->foreseen_count);
  const struct job_outcome *sent = &end->foreseen[end->told++];
  EXPECT(told->batch == sent->batch && told->index == sent->index && told->outcome == sent->outcome);
  EXPECT(told->backoff == sent->backoff && told->discard == sent->discard && told->waited == sent->waited);
  EXPECT(told->wait_ms == sent->wait_ms);
  EXPECT(told->duration_us == sent->duration_us && told->busy_us == sent->busy_us);
  EXPECT(is_same(told->error, told->error_length, sent->error, sent->error_length));
  EXPECT(is_same(told->traceback, told->traceback_length, sent->traceback, sent->traceback_length));
}

/* ── outcomes, as a hold takes them ── */

static bool is_clean(const char *text) {
  return !text || (text_is_utf8(text, strlen(text)) && strlen(text) <= ERROR_TEXT_MOST);
}

static int64_t next_wait_after(const struct job_outcome *outcome) {
  return outcome->discard ? NO_NEXT_WAIT : outcome->wait_ms >= 0 ? outcome->wait_ms : WAIT_MS;
}

/* What an executor may say, and what is kept of it. */
static void check_ended(const struct job *job, const struct job_outcome *outcome) {
  EXPECT(outcome->outcome >= OUTCOME_COMPLETE && outcome->outcome <= OUTCOME_SETTLED);
  EXPECT(outcome->duration_us <= (uint64_t)DURATION_MAX_MS * 1000 + 999 && outcome->busy_us <= outcome->duration_us);
  EXPECT(outcome->wait_ms >= -1 && outcome->wait_ms <= DURATION_MAX_MS);
  /* Only the handlers of a transactional queue complete their jobs themselves. */
  bool believed = outcome->outcome != OUTCOME_SETTLED || job->transactional;
  EXPECT(job->outcome == (believed ? outcome->outcome : OUTCOME_COMPLETE));
  EXPECT(job->backoff == outcome->backoff && job->waited == outcome->waited);
  EXPECT(job->duration_us == outcome->duration_us && job->busy_us == outcome->busy_us);
  EXPECT(job->next_wait_ms == next_wait_after(outcome) && (!outcome->discard || job->retries_left == 0));
  EXPECT((job->error != NULL) == (outcome->outcome == OUTCOME_FAIL) && is_clean(job->error));
  EXPECT((job->traceback != NULL) == (outcome->traceback_length > 0) && is_clean(job->traceback));
}

static bool on_outcome(void *owner, const struct job_outcome *outcome) {
  struct ending *end = owner;
  seen += sum(outcome->error, outcome->error_length) + sum(outcome->traceback, outcome->traceback_length);
  check_told(end, outcome);
  struct job *job = lease_list_end(&end->leased, outcome);
  EXPECT(!job || (outcome->batch == BATCH && job->id == (int64_t)FIRST_ID + outcome->index));
  if (!job) {
    if (outcome->batch != BATCH || end->batch.open == 0)
      return outcome->batch <= BATCH;
    if (!batch_end_job(&end->batch, outcome->index, outcome))
      return outcome->outcome == OUTCOME_UNRUN;
    job = &end->batch.jobs[outcome->index];
  }
  check_ended(job, outcome);
  return true;
}

static void on_replace(void *owner, int64_t job, const char *left) {
  (void)owner;
  (void)job;
  EXPECT(strlen(left) <= ERROR_TEXT_MOST);
}

static void on_outcomes_end(void *owner) {
  struct ending *end = owner;
  int open = 0, busy = 0;
  end->frames_told++;
  for (int i = 0; i < end->batch.count; i++)
    open += end->batch.jobs[i].outcome == OUTCOME_NONE;
  for (int i = 0; i < end->leased.count; i++)
    busy += end->leased.items[i].job.outcome == OUTCOME_NONE;
  EXPECT(open == end->batch.open && busy == lease_list_busy(&end->leased));
  EXPECT(busy + lease_list_ended(&end->leased) == end->leased.count);
}

/* ── what happens meanwhile ── */

/* Jobs that have begun are leased, the others go back; no job is open then. */
static void split(struct ending *end) {
  int open = end->batch.open, leases = batch_split(&end->batch, BEGUN, TOKEN);
  lease_list_add_from(&end->leased, &end->batch);
  EXPECT(leases <= open && leases <= BEGUN && end->batch.open == 0 && lease_list_busy(&end->leased) == leases);
  EXPECT(lease_list_has(&end->leased, BATCH) == (leases > 0));
}

static void lose(struct ending *end, int64_t id, bool cancelled) {
  bool ran = lease_list_find(&end->leased, id) != NULL;
  const struct lease *lease = lease_list_lose(&end->leased, id, cancelled);
  EXPECT((lease != NULL) == ran);
  EXPECT(!lease || lease->cancelled == cancelled);
}

/* Jobs that have ended are settled, unless their lease was lost. */
static void collect(struct ending *end) {
  int busy = lease_list_busy(&end->leased), ended = lease_list_ended(&end->leased), before = end->settling.count;
  lease_list_collect(&end->leased, &end->settling);
  EXPECT(lease_list_busy(&end->leased) == busy && lease_list_ended(&end->leased) == 0);
  EXPECT(end->settling.count >= before && end->settling.count - before <= ended);
}

/* One of its jobs caused the death: the other jobs lose no attempt. */
static void die(struct ending *end) {
  const struct child_death death = {
      .has_culprit = true, .culprit = FIRST_ID + 2, .ran_us = 5, .cause = "the executor died"};
  lease_list_child_died(&end->leased, &death);
  batch_fail_culprit(&end->batch, &death);
  batch_release(&end->batch, NULL, false);
  EXPECT(lease_list_busy(&end->leased) == 0 && end->batch.open == 0);
}

static void on_stop(void *owner) {
  struct ending *end = owner;
  switch (end->next) {
  case TIME_IS_UP:
    split(end);
    break;
  case LEASE_IS_LOST:
    lose(end, FIRST_ID + 1, false);
    break;
  case JOB_IS_CANCELLED:
    lose(end, FIRST_ID + 3, true);
    break;
  case OUTCOMES_ARE_COLLECTED:
    collect(end);
    break;
  case CHILD_DIES:
    die(end);
    break;
  default:
    return;
  }
  end->next++;
}

/* ── settling ── */

static bool is_to_be_written(const struct job *job) {
  return job->outcome != OUTCOME_NONE && job->outcome != OUTCOME_SETTLED &&
         (job->outcome != OUTCOME_UNRUN || job->leased);
}

/* The number of elements of an array, as Postgres is sent it. */
static int length_of(const struct parameters *parameters, int index) {
  const unsigned char *at = parameters->bytes.bytes + parameters->offsets[index] + 12;
  EXPECT(parameters->lengths[index] >= 20);
  return at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static void on_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct ending *end = context;
  EXPECT(statement < STATEMENT_COUNT && parameters->count > 0 && length_of(parameters, 0) > 0);
  for (int i = 1; i < parameters->count && parameters->lengths[i] >= 20; i++) /* the worker's name comes last */
    EXPECT(length_of(parameters, i) == length_of(parameters, 0));
  end->written += length_of(parameters, 0);
}

/* Every outcome is written by one statement. */
static void settle(struct ending *end, struct batch *batch) {
  static const struct history history = {.worker_id = 7, .worker = "host:1"};
  int expected = 0;
  for (int i = 0; i < batch->count; i++)
    expected += is_to_be_written(&batch->jobs[i]);
  end->written = 0;
  settle_send(batch, LEASE_MS, &history, "", on_statement, end);
  EXPECT(end->written == expected);
  batch_learn(batch);
  settle_log(batch);
  batch_clear(batch);
}

/* ── a supervisor's life ── */

static bool take(void *context) {
  struct ending *end = context;
  foresee(end);
  take_frames(end->child);
  EXPECT(*end->child->fault || (end->told == end->foreseen_count && end->frames_told == end->frames));
  return !*end->child->fault;
}

/* Jobs that wait for their outcomes; the last one has not been sent, and can have none. */
static void fill(struct batch *batch, struct queue_list *queues) {
  struct queue *plain = queue_find(queues, "fuzzed"), *settled = queue_find(queues, "settled");
  *batch = (struct batch){.number = BATCH, .count = JOBS, .open = JOBS, .sent = JOBS - 1};
  settled->transactional = settled->discard_failed = true;
  settled->timeout_ms = DURATION_MAX_MS;
  batch->jobs = memory_new(JOBS * sizeof *batch->jobs);
  for (uint32_t i = 0; i < JOBS; i++)
    batch->jobs[i] = (struct job){.id = FIRST_ID + i,
                                  .tid = i % 3,
                                  .queue = i % 2 ? settled : plain,
                                  .transactional = i % 2,
                                  .attempt = 1,
                                  .retries_left = 3,
                                  .next_wait_ms = WAIT_MS,
                                  .position = (i + 1) % JOBS};
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
  static const struct child_events events = {.sources = on_sources,
                                             .ready = on_ready,
                                             .broken = on_broken,
                                             .outcome = on_outcome,
                                             .outcomes_end = on_outcomes_end,
                                             .stop = on_stop,
                                             .replace = on_replace};
  struct queue_list queues = {0};
  struct ending end = {0};
  fill(&end.batch, &queues);
  end.child = child_new(NULL, NULL, &events, &end);
  end.child->reads_sources = true;
  pieces_round_trip(input, length);
  pieces_feed(input, length, &end.child->in, take, &end);
  EXPECT(end.next != TIME_IS_UP || end.batch.jobs[JOBS - 1].outcome == OUTCOME_NONE);
  batch_release(&end.batch, NULL, false);
  collect(&end);
  settle(&end, &end.batch);
  settle(&end, &end.settling);
  lease_list_free(&end.leased);
  child_free(end.child);
  free(end.foreseen);
  queue_list_free(&queues);
  return 0;
}
