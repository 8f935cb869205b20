#include "player.h"

#include <string.h>

#include "fake_clock.h"
#include "ledger.h"
#include "memory.h"
#include "message.h"
#include "pieces.h"
#include "script.h"

enum { FOR_OTHERS = 7, WAITS_MOST = 8 };

/* A task. */
struct part {
  uint32_t batch;
  bool settles;
  unsigned char *bytes; /* NULL: there is no such task */
  size_t length, at;
  int turns; /* until its wait is over; 0: somebody else ends it */
  bool final, watched;
};

struct script {
  const struct script_config *config;
};

static struct script script;
static struct shared_page *page;
static struct part *parts;
static uint32_t part_count;
static uint32_t pool; /* 0: SERVE has not come */
static char long_text[2 * ERROR_TEXT_MOST];
static volatile unsigned seen;

void player_open(struct shared_page *of) {
  page = of;
  memset(long_text, 'x', sizeof long_text);
}

void player_close(void) {
  for (uint32_t i = 0; i < part_count; i++)
    free(parts[i].bytes);
  free(parts);
  parts = NULL;
  part_count = pool = 0;
  script.config = NULL;
}

void player_turn(int all) {
  for (uint32_t i = 0; i < part_count; i++) {
    struct part *part = &parts[i];
    bool over = part->turns > 0 && --part->turns == 0;
    if (!over && !(all && part->bytes))
      continue;
    ledger_wake(i);
    script.config->ready(script.config->owner, i);
  }
}

/* ── the script ── */

static unsigned sum(const char *bytes, size_t length) {
  unsigned all = 0;
  for (size_t i = 0; i < length; i++)
    all += (unsigned char)bytes[i];
  return all;
}

struct script *script_new(const struct script_config *config) {
  EXPECT(!script.config && config->loop && config->script < config->argc);
  script.config = config;
  return &script;
}

void script_free(struct script *unused) {
  (void)unused;
}

int script_load(struct script *self, struct buffer *message) {
  const struct script_config *config = self->config;
  for (int i = 0; i < config->argc; i++)
    seen += sum(config->argv[i], strlen(config->argv[i]));
  seen += sum(config->conninfo, strlen(config->conninfo));
  for (uint32_t i = 0; i < config->sources->count; i++) {
    const struct message_source *source = &config->sources->items[i];
    seen += sum(source->module, strlen(source->module)) + sum(source->path, strlen(source->path));
    seen += sum(source->bytes, source->length);
  }
  if (strcmp(config->argv[config->script], "broken") != 0)
    return 0;
  buffer_add(message, long_text, sizeof long_text);
  return -1;
}

void script_describe(struct script *self, struct buffer *out) {
  (void)self;
  struct message_queue queues[PLAYER_QUEUES] = {
      {.name = "fuzzed", .preserve_completed = CHOICE_YES, .timeout_ms = -1},
      {.name = "", .discard_failed = CHOICE_NO, .timeout_ms = 0, .concurrency = 2},
      {.name = "settled", .timeout_ms = 1000, .transactional = true},
  };
  struct message_setting setting = {.name = "lease", .value = "60s"};
  message_put_ready(out, &(struct message_ready){
                             .queue_count = PLAYER_QUEUES, .queues = queues, .setting_count = 1, .settings = &setting});
}

const struct message_sources *script_sources_read(const struct script *self) {
  EXPECT(self == &script);
  return NULL;
}

uint32_t script_queue_count(const struct script *self) {
  (void)self;
  return PLAYER_QUEUES;
}

void script_serve(struct script *self, uint32_t connections, bool prepare, const char *version) {
  (void)prepare;
  seen += sum(version, strlen(version));
  EXPECT(self == &script && pool == 0 && connections > 0);
  pool = connections;
}

/* No handler changes a setting here. */
bool script_settings_changed(const struct script *self) {
  EXPECT(self == &script);
  return false;
}

void script_restore_settings(struct script *self, uint32_t number, bool waits, struct buffer *changed,
                             struct buffer *lost) {
  (void)self, (void)number, (void)waits, (void)changed, (void)lost;
  EXPECT(false);
}

void script_bring_settings(struct script *self, uint32_t number) {
  (void)self, (void)number;
  EXPECT(false);
}

/* It is for the quiet hours of those that wait. */
void script_collect(struct script *self) {
  EXPECT(self == &script && ledger_waits() > 0 && !ledger_has_work());
}

/* ── its handlers ── */

static const struct part nobody;

static struct part *new_part(uint32_t number, const struct message_job *job) {
  if (number >= part_count) {
    parts = memory_resize(parts, (number + 1) * sizeof *parts);
    for (; part_count <= number; part_count++)
      parts[part_count] = nobody;
  }
  struct part *part = &parts[number];
  EXPECT(!part->bytes && !part->watched);
  *part = (struct part){.settles = job->settles, .length = job->data_length};
  part->bytes = memory_new(job->data_length + 1);
  if (job->data_length > 0)
    memcpy(part->bytes, job->data, job->data_length);
  return part;
}

static unsigned next_byte(struct part *part) {
  return part->at < part->length ? part->bytes[part->at++] : 0;
}

static void take_time(unsigned digit) {
  int64_t us = 1;
  for (; digit > 0; digit--)
    us *= 10;
  fake_clock_advance(us);
}

/* What does not end the handler. */
static void act(struct part *part, unsigned byte) {
  const struct script_config *config = script.config;
  uint32_t other, number = (uint32_t)(part - parts);
  switch (byte) {
  case 'y':
    other = next_byte(part);
    ledger_wake(other);
    config->ready(config->owner, other);
    break;
  case 'k':
    part->watched = true;
    config->watch(config->owner, number);
    break;
  case 'l':
    config->log(config->owner, part->at % (LOG_ERROR + 1), (const char *)part->bytes, part->length);
    break;
  case 'L':
    config->log(config->owner, LOG_WARN, long_text, sizeof long_text);
    break;
  case 'p':
    config->stop(config->owner);
    break;
  case 'v':
    atomic_store(&page->lanes[part->batch % HOLDS_PER_EXECUTOR].revoked, part->batch);
    break;
  default:
    if (byte >= '0' && byte <= '9')
      take_time(byte - '0');
  }
}

static struct job_outcome failure(const char *text, size_t length) {
  return (struct job_outcome){.outcome = OUTCOME_FAIL,
                              .wait_ms = -1,
                              .error = text,
                              .error_length = length,
                              .traceback = text,
                              .traceback_length = length / 2};
}

/* Whether this byte ends the handler, and how. */
static bool ends(struct part *part, unsigned byte, struct job_outcome *end) {
  struct job_outcome failed = failure((const char *)part->bytes, part->length);
  failed.backoff = byte == 'b';
  failed.discard = byte == 'd';
  if (byte == 'F')
    failed = failure(long_text, sizeof long_text);
  else if (byte == 'r')
    failed.wait_ms = next_byte(part);
  else if (byte == 's')
    failed = (struct job_outcome){.outcome = OUTCOME_SNOOZE, .wait_ms = next_byte(part)};
  else if (byte == 't' && part->settles)
    failed = (struct job_outcome){.outcome = OUTCOME_SETTLED, .wait_ms = -1};
  else if (byte != 'f' && byte != 'b' && byte != 'd')
    return false;
  *end = failed;
  return true;
}

/* The handler goes on until it waits, or ends. */
static void play(uint32_t number, struct job_outcome *end) {
  struct part *part = &parts[number];
  uint32_t current;
  EXPECT(script.config->current(script.config->owner, &current) && current == number);
  *end = (struct job_outcome){.outcome = OUTCOME_COMPLETE, .wait_ms = -1};
  while (part->at < part->length) {
    unsigned byte = part->bytes[part->at++];
    if (byte == 'w' && !part->final) {
      unsigned turns = next_byte(part) % WAITS_MOST;
      part->turns = turns == FOR_OTHERS ? 0 : (int)turns + 1;
      *end = (struct job_outcome){.outcome = OUTCOME_NONE, .wait_ms = -1};
      break;
    }
    if (ends(part, byte == 'w' ? 'f' : byte, end))
      break;
    act(part, byte);
  }
  ledger_return(number, end);
}

/* What was said of it at its end lives until the next call. */
static void forget_ended(void) {
  for (uint32_t i = 0; i < part_count; i++)
    if (parts[i].bytes && !ledger_has_task(i)) {
      free(parts[i].bytes);
      parts[i].bytes = NULL;
      parts[i].turns = 0;
    }
}

void script_begin(struct script *self, uint32_t number, const struct message_job *job, bool preserve,
                  int64_t timeout_ms, struct job_outcome *end) {
  EXPECT(self == &script && pool > 0 && timeout_ms >= 0);
  forget_ended();
  new_part(number, job)->batch = ledger_begin(number, job, preserve);
  play(number, end);
}

void script_resume(struct script *self, uint32_t number, struct job_outcome *end) {
  EXPECT(self == &script && number < part_count);
  forget_ended();
  ledger_resume(number);
  parts[number].turns = 0;
  play(number, end);
}

void script_interrupt(struct script *self, uint32_t number, enum script_interrupt why, bool final) {
  EXPECT(self == &script && number < part_count);
  ledger_interrupt(number, why, final);
  parts[number].turns = 0;
  parts[number].final = final;
}

void script_ended(struct script *self, uint32_t number) {
  uint32_t current;
  EXPECT(self == &script && number < part_count && parts[number].watched && !ledger_has_task(number));
  EXPECT(!script.config->current(script.config->owner, &current));
  parts[number].watched = false;
}
