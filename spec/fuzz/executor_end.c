/*
 * The executor's end of the socket: any bytes go through the code that reads a supervisor's frames and keeps the tasks,
 * up to the call of the script, which is played here: no Lua, no thread, no socket.
 */
#include <sys/resource.h>

static int keep_limit(const struct rlimit *limit) {
  return limit->rlim_cur == limit->rlim_max ? 0 : -1;
}

/* Its functions that take frames are nobody else's business. The limit it would set is this test's own. */
#define setrlimit(resource, limit) keep_limit(limit)
#include "executor.c"
#undef setrlimit

#include <string.h>

#include "memory.h"
#include "pieces.h"

/* Batches up to this one have been revoked: their jobs may not begin. */
enum { REVOKED = 3 };

struct script {
  const struct script_config *config;
};

static struct shared_page page;
static struct script script;
static volatile unsigned seen;
static bool began; /* a job has */

static unsigned sum(const char *bytes, size_t length) {
  unsigned all = 0;
  for (size_t i = 0; i < length; i++)
    all += (unsigned char)bytes[i];
  return all;
}

/* ── the script ── */

struct script *script_new(const struct script_config *config) {
  script.config = config;
  return &script;
}

void script_free(struct script *unused) {
  (void)unused;
}

/* The script "broken" is. */
int script_load(struct script *self, struct buffer *message) {
  const struct script_config *config = self->config;
  for (int i = 0; i < config->argc; i++)
    seen += sum(config->argv[i], strlen(config->argv[i]));
  seen += sum(config->conninfo, strlen(config->conninfo));
  if (strcmp(config->argv[config->script], "broken") != 0)
    return 0;
  buffer_add(message, "why", 3);
  return -1;
}

void script_describe(struct script *self, struct buffer *out) {
  (void)self;
  struct message_queue queue = {.name = "fuzzed", .preserve_completed = CHOICE_YES, .timeout_ms = -1};
  struct message_setting setting = {.name = "lease", .value = "60s"};
  struct message_ready ready = {.queue_count = 1, .queues = &queue, .setting_count = 1, .settings = &setting};
  message_put_ready(out, &ready);
}

/* The data's first byte says how the job ends, and all of it is the error. */
void script_begin(struct script *self, uint32_t number, const struct script_job *job, struct script_end *end) {
  (void)self, (void)number;
  EXPECT(atomic_load(&page.current_job) == job->id);
  began = true;
  seen += sum(job->data, job->data_length);
  char first = job->data_length > 0 ? job->data[0] : 0;
  *end = (struct script_end){.outcome = OUTCOME_COMPLETE, .wait_ms = -1};
  if (first == 'f' || first == 'b')
    *end = (struct script_end){.outcome = OUTCOME_FAIL,
                               .backoff = first == 'b',
                               .wait_ms = -1,
                               .error = job->data,
                               .error_length = job->data_length,
                               .traceback = job->data,
                               .traceback_length = job->data_length};
}

uint32_t script_queue_count(const struct script *self) {
  (void)self;
  return 1;
}

void script_serve(struct script *self, uint32_t pool) {
  (void)self;
  EXPECT(pool > 0);
}

/* No task waits. */
void script_resume(struct script *self, uint32_t number, struct script_end *end) {
  (void)self, (void)number, (void)end;
  EXPECT(!"a task goes on");
}

void script_interrupt(struct script *self, uint32_t number, enum script_interrupt why, bool final) {
  (void)self, (void)number, (void)why, (void) final;
  EXPECT(!"a task is interrupted");
}

void script_ended(struct script *self, uint32_t number) {
  (void)self, (void)number;
  EXPECT(!"the end of a task is wanted");
}

void script_collect(struct script *self) {
  (void)self;
}

/* ── the outbox: what the executor says has to be understood at the other end ── */

static struct frame frame_of(uint8_t type, const struct buffer *fields) {
  static const unsigned char none[1];
  const unsigned char *at = fields->length > 0 ? fields->bytes : none;
  return (struct frame){.type = type, .at = at, .end = at + fields->length};
}

void outbox_add_outcome(struct outbox *outbox, const struct buffer *fields) {
  struct frame frame = frame_of(FRAME_OUTCOMES, fields);
  struct message_outcome outcome;
  (void)outbox;
  EXPECT(message_get_outcome(&frame, &outcome) && frame_end_ok(&frame));
  if (outcome.outcome == OUTCOME_UNRUN)
    return;
  uint64_t begun = atomic_load(&page.lanes[outcome.batch % HOLDS_PER_EXECUTOR].begun);
  EXPECT(began && outcome.batch == begun >> 32 && (uint32_t)begun > 0 && (int32_t)(outcome.batch - REVOKED) > 0);
}

void outbox_send(struct outbox *outbox, uint8_t type, const struct buffer *fields) {
  struct frame frame = frame_of(type, fields);
  struct message_ready ready;
  const char *message;
  size_t length;
  (void)outbox;
  if (type == FRAME_READY) {
    EXPECT(message_get_ready(&frame, &ready));
    message_free_ready(&ready);
  } else {
    EXPECT(type == FRAME_BROKEN && message_get_broken(&frame, &message, &length));
  }
}

struct outbox *outbox_new(int socket) {
  (void)socket;
  return NULL;
}

void outbox_flush(struct outbox *outbox) {
  (void)outbox;
}

void outbox_free(struct outbox *outbox) {
  (void)outbox;
}

/* ── an executor's life ── */

static bool step(struct executor *e) {
  bool more = task_list_step(e->tasks);
  EXPECT(atomic_load(&page.current_job) == 0);
  return more;
}

/* A job has its turn between any two pieces, so that others wait while more comes in. */
static bool take(void *context) {
  struct executor *e = context;
  take_frames(e);
  if (e->tasks)
    step(e);
  return !e->leaving;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
  static struct executor executor;
  struct executor *e = &executor;
  *e = (struct executor){.page = &page};
  uv_loop_init(&e->loop);
  uv_idle_init(&e->loop, &e->turn);
  uv_timer_init(&e->loop, &e->idle);
  e->turn.data = e->idle.data = e;
  page = (struct shared_page){.lanes = {{.revoked = REVOKED}, {.revoked = REVOKED}}};
  began = false;
  pieces_round_trip(input, length);
  pieces_feed(input, length, &e->in, take, e);
  while (e->tasks && step(e))
    continue;
  uv_close((uv_handle_t *)&e->turn, NULL);
  uv_close((uv_handle_t *)&e->idle, NULL);
  if (e->tasks)
    task_list_close(e->tasks);
  while (uv_run(&e->loop, UV_RUN_NOWAIT) != 0)
    continue;
  uv_loop_close(&e->loop);
  if (e->tasks)
    task_list_free(e->tasks);
  message_free_configure(&e->configure);
  buffer_free(&e->in);
  return 0;
}
