#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch.h"
#include "log.h"
#include "memory.h"
#include "settle.h"

enum { BATCH = 6, JOBS = 5, FIRST_ID = 100, WAIT_MS = 60000, LEASE_MS = 5000, TIMEOUT_MS = 2000, MARGIN_MS = 10000 };

/* ── the log: messages and their levels ── */

static enum log_level logged_level;
static char logged[128];
static int lines;

void log_setup(enum log_level level, enum log_format format) {
  (void)level, (void)format;
}

int log_wants(enum log_level level) {
  (void)level;
  return 1;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  (void)fields, (void)count;
  logged_level = level;
  lines++;
  strncpy(logged, message, sizeof logged - 1);
}

struct log_field log_text_field(const char *key, const char *text) {
  return (struct log_field){.key = text ? key : NULL, .text = text, .length = text ? strlen(text) : 0};
}

/* ── a hold's batch: the executor has all jobs except the last one, which is large ── */

struct scene {
  struct queue_list queues;
  struct queue *queue;
  struct batch batch;
};

static int set_up(void **state) {
  struct scene *scene = memory_new(sizeof *scene);
  scene->queue = queue_find(&scene->queues, "mail");
  scene->batch = (struct batch){.number = BATCH, .count = JOBS, .open = JOBS, .sent = JOBS - 1};
  scene->batch.jobs = memory_new(JOBS * sizeof(struct job));
  for (uint32_t i = 0; i < JOBS; i++)
    scene->batch.jobs[i] = (struct job){.id = FIRST_ID + i,
                                        .queue = scene->queue,
                                        .position = (i + 1) % JOBS,
                                        .attempt = 1,
                                        .retries_left = 3,
                                        .next_wait_ms = WAIT_MS};
  lines = 0;
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  batch_clear(&scene->batch);
  queue_list_free(&scene->queues);
  free(scene);
  return 0;
}

static bool end(struct scene *scene, uint32_t index, enum outcome outcome) {
  return batch_end_job(&scene->batch, index,
                       &(struct job_outcome){.outcome = outcome,
                                             .waited = outcome == OUTCOME_SNOOZE,
                                             .wait_ms = outcome == OUTCOME_SNOOZE ? 7000 : -1,
                                             .duration_us = 9000000,
                                             .busy_us = 20000,
                                             .error = "no",
                                             .error_length = 2});
}

/* ── outcomes that an executor sends ── */

static void a_job_ends_once_and_only_if_it_was_sent(void **state) {
  struct scene *scene = *state;
  assert_true(end(scene, 0, OUTCOME_COMPLETE));
  assert_false(end(scene, 0, OUTCOME_FAIL));
  assert_false(end(scene, JOBS - 1, OUTCOME_COMPLETE));
  assert_false(end(scene, JOBS, OUTCOME_COMPLETE));
  assert_int_equal(scene->batch.open, JOBS - 1);
  assert_int_equal(scene->batch.jobs[0].outcome, OUTCOME_COMPLETE);
  assert_null(scene->batch.jobs[0].error);
}

/* When the job runs again: at the time that the handler asks for, if its outcome may name a time. */
static void the_handler_may_choose_the_wait_but_not_make_up_a_retry(void **state) {
  (void)state;
  static const struct {
    enum outcome outcome;
    bool discard;
    int64_t said_ms, next_ms, becomes_ms;
  } cases[] = {
      {OUTCOME_FAIL, false, -1, WAIT_MS, WAIT_MS},
      {OUTCOME_FAIL, false, 1500, WAIT_MS, 1500},
      {OUTCOME_FAIL, false, 0, WAIT_MS, 0},
      {OUTCOME_FAIL, false, 1500, NO_NEXT_WAIT, NO_NEXT_WAIT}, /* no waits are left */
      {OUTCOME_FAIL, true, -1, WAIT_MS, NO_NEXT_WAIT},
      {OUTCOME_SNOOZE, false, 1500, WAIT_MS, 1500},
      {OUTCOME_SNOOZE, false, 0, NO_NEXT_WAIT, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct job job = {.next_wait_ms = cases[i].next_ms, .retries_left = 3};
    job_end(&job, &(struct job_outcome){.outcome = cases[i].outcome,
                                        .discard = cases[i].discard,
                                        .wait_ms = cases[i].said_ms,
                                        .error = "no",
                                        .error_length = 2});
    assert_true(job.next_wait_ms == cases[i].becomes_ms);
    assert_int_equal(job.retries_left, cases[i].discard ? 0 : 3);
    assert_true((job.error != NULL) == (cases[i].outcome == OUTCOME_FAIL));
    job_free(&job);
  }
}

/* ── the hold limit is reached, or the executor dies ── */

static void what_has_begun_is_leased_and_the_rest_goes_back(void **state) {
  struct scene *scene = *state;
  const struct job *jobs = scene->batch.jobs;
  end(scene, 0, OUTCOME_COMPLETE);
  assert_int_equal(batch_split(&scene->batch, 2, 7000), 1);
  assert_int_equal(jobs[0].outcome, OUTCOME_COMPLETE);
  assert_int_equal(jobs[1].outcome, OUTCOME_LEASE);
  assert_int_equal(jobs[1].lease, 7001);
  for (int i = 2; i < JOBS; i++) {
    assert_int_equal(jobs[i].outcome, OUTCOME_UNRUN);
    assert_int_equal(jobs[i].lease, 0);
  }
  assert_int_equal(scene->batch.open, 0);
  assert_true(batch_has_unwritten_lease(&scene->batch, FIRST_ID + 1));
  assert_false(batch_has_unwritten_lease(&scene->batch, FIRST_ID));
}

static void a_batch_that_is_parked_teaches_that_its_queue_waits(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_COMPLETE);
  batch_split(&scene->batch, 2, 7000);
  batch_learn_waiting(&scene->batch, 400);
  assert_true(queue_handlers_wait(scene->queue));
  assert_int_equal(scene->queue->seen, 1);
  assert_int_equal(scene->queue->seen_us, 400);
}

static void a_queue_learns_of_the_jobs_that_have_ended_what_kept_them_busy(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_SNOOZE);
  end(scene, 1, OUTCOME_UNRUN);
  batch_split(&scene->batch, 3, 7000); /* the third is leased, the others go back */
  batch_learn(&scene->batch);
  assert_true(scene->queue->job_us == 20000);
  assert_true(scene->queue->run_us == 9000000);
  assert_true(queue_handlers_wait(scene->queue));
}

static void without_a_culprit_the_death_is_counted_for_jobs_that_had_begun(void **state) {
  struct scene *scene = *state;
  const struct job *jobs = scene->batch.jobs;
  end(scene, 0, OUTCOME_COMPLETE);
  scene->batch.jobs[1].deaths = 4; /* but it was not alone */
  batch_count_death(&scene->batch, 3, &(struct child_death){.cause = "it died"});
  assert_int_equal(jobs[0].outcome, OUTCOME_COMPLETE);
  assert_int_equal(jobs[1].outcome, OUTCOME_DEATH);
  assert_int_equal(jobs[2].outcome, OUTCOME_DEATH);
  assert_int_equal(jobs[3].outcome, OUTCOME_UNRUN);
  assert_int_equal(jobs[4].outcome, OUTCOME_UNRUN);
  assert_int_equal(scene->batch.open, 0);
}

static void a_job_that_has_seen_a_death_and_was_alone_is_to_blame(void **state) {
  struct scene *scene = *state;
  scene->batch.jobs[0].deaths = 1;
  batch_count_death(&scene->batch, 1, &(struct child_death){.alone = true, .cause = "it died"});
  assert_int_equal(scene->batch.jobs[0].outcome, OUTCOME_FAIL);
  assert_string_equal(scene->batch.jobs[0].error, "it died");
  assert_int_equal(scene->batch.jobs[1].outcome, OUTCOME_UNRUN);
  assert_int_equal(scene->batch.open, 0);
}

/* ── settling ── */

struct settled {
  int statements;
  enum statement last;
  int64_t third; /* the first element of its third parameter, an int8[] */
};

static int64_t first_element(const struct parameters *parameters, int index) {
  enum { ARRAY_HEAD = 20, LENGTH = 4 };
  uint64_t value = 0;
  const unsigned char *at = parameters->bytes.bytes + parameters->offsets[index] + ARRAY_HEAD + LENGTH;
  for (int i = 0; i < 8; i++)
    value = value << 8 | at[i];
  return (int64_t)value;
}

static void on_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct settled *settled = context;
  settled->statements++;
  settled->last = statement;
  if (statement == STATEMENT_LEASE || statement == STATEMENT_SNOOZE)
    settled->third = first_element(parameters, 2);
}

/* How a single job of that outcome is written. */
static struct settled settle(struct scene *scene, enum outcome outcome, int64_t lease, uint64_t tid) {
  static const struct history history = {.worker_id = 7, .worker = "host:1"};
  struct settled settled = {0};
  scene->batch.count = 1;
  scene->batch.jobs[0].outcome = outcome;
  scene->batch.jobs[0].leased = lease != 0;
  scene->batch.jobs[0].lease = lease;
  scene->batch.jobs[0].tid = tid;
  settle_send(&scene->batch, LEASE_MS, &history, "abc", on_statement, &settled);
  return settled;
}

static void every_outcome_is_written_by_its_statement(void **state) {
  struct scene *scene = *state;
  static const struct {
    enum outcome outcome;
    int64_t lease;
    uint64_t tid;
    enum statement statement; /* STATEMENT_COUNT: none */
  } cases[] = {
      {OUTCOME_COMPLETE, 0, 5, STATEMENT_COMPLETE_BY_TID},
      {OUTCOME_COMPLETE, 0, 0, STATEMENT_COMPLETE_BY_ID},
      {OUTCOME_COMPLETE, 7, 5, STATEMENT_COMPLETE_LEASED},
      {OUTCOME_FAIL, 0, 5, STATEMENT_FAIL},
      {OUTCOME_FAIL, 7, 0, STATEMENT_FAIL},
      {OUTCOME_UNRUN, 0, 5, STATEMENT_COUNT},
      {OUTCOME_UNRUN, 7, 0, STATEMENT_RELEASE},
      {OUTCOME_SNOOZE, 0, 5, STATEMENT_SNOOZE},
      {OUTCOME_SNOOZE, 7, 0, STATEMENT_SNOOZE},
      {OUTCOME_SETTLED, 7, 0, STATEMENT_COUNT},
      {OUTCOME_LEASE, 7, 5, STATEMENT_LEASE},
      {OUTCOME_DEATH, 0, 5, STATEMENT_COUNT_DEATH},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct settled settled = settle(scene, cases[i].outcome, cases[i].lease, cases[i].tid);
    assert_int_equal(settled.statements, cases[i].statement != STATEMENT_COUNT);
    if (cases[i].statement != STATEMENT_COUNT)
      assert_int_equal(settled.last, cases[i].statement);
  }
}

static void a_failure_is_only_discarded_when_no_retry_is_left(void **state) {
  struct scene *scene = *state;
  scene->queue->discard_failed = true;
  assert_int_equal(settle(scene, OUTCOME_FAIL, 0, 5).last, STATEMENT_FAIL);
  scene->batch.jobs[0].next_wait_ms = NO_NEXT_WAIT;
  assert_int_equal(settle(scene, OUTCOME_FAIL, 0, 5).last, STATEMENT_REMOVE_RECORDED);
}

static void every_attempt_is_recorded_if_it_was_asked_for(void **state) {
  struct scene *scene = *state;
  scene->queue->keep_attempts = true;
  assert_int_equal(settle(scene, OUTCOME_COMPLETE, 0, 5).last, STATEMENT_REMOVE_RECORDED);
  assert_int_equal(settle(scene, OUTCOME_COMPLETE, 7, 0).last, STATEMENT_REMOVE_RECORDED);
  assert_int_equal(settle(scene, OUTCOME_SNOOZE, 0, 5).last, STATEMENT_SNOOZE_RECORDED);
  assert_int_equal(settle(scene, OUTCOME_SETTLED, 7, 0).last, STATEMENT_RECORD_SETTLED);
  assert_int_equal(settle(scene, OUTCOME_CANCELLED, 7, 0).last, STATEMENT_RECORD_CANCELLED);
  scene->queue->preserve_completed = true;
  assert_int_equal(settle(scene, OUTCOME_COMPLETE, 0, 5).last, STATEMENT_PRESERVE_RECORDED);
}

static void a_lease_lasts_as_long_as_was_set_or_as_its_transaction_may(void **state) {
  struct scene *scene = *state;
  assert_int_equal(settle(scene, OUTCOME_LEASE, 7, 5).third, LEASE_MS);
  scene->batch.jobs[0].transactional = true;
  scene->queue->timeout_ms = TIMEOUT_MS;
  assert_int_equal(settle(scene, OUTCOME_LEASE, 7, 5).third, TIMEOUT_MS + MARGIN_MS);
  scene->queue->timeout_ms = 0;
  assert_int_equal(settle(scene, OUTCOME_LEASE, 7, 5).third, LEASE_MS + MARGIN_MS);
}

static void a_snooze_is_written_with_its_wait(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_SNOOZE);
  assert_int_equal(settle(scene, OUTCOME_SNOOZE, 0, 5).third, 7000);
}

/* ── the log ── */

static void assert_logged(struct scene *scene, enum outcome outcome, bool written, const char *message) {
  lines = 0;
  scene->batch.count = 1;
  scene->batch.jobs[0].outcome = outcome;
  scene->batch.jobs[0].written = written;
  settle_log(&scene->batch);
  assert_int_equal(lines, message != NULL);
  if (message)
    assert_string_equal(logged, message);
}

static void the_log_tells_of_what_ended(void **state) {
  struct scene *scene = *state;
  assert_logged(scene, OUTCOME_COMPLETE, true, "job completed");
  assert_logged(scene, OUTCOME_SNOOZE, true, "job snoozed");
  assert_logged(scene, OUTCOME_UNRUN, false, NULL);
  assert_logged(scene, OUTCOME_LEASE, true, NULL);
}

static void a_job_that_its_handler_has_settled_has_completed(void **state) {
  struct scene *scene = *state;
  assert_logged(scene, OUTCOME_SETTLED, false, "job completed");
  assert_int_equal(logged_level, LOG_DEBUG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_job_ends_once_and_only_if_it_was_sent),
      TEST(the_handler_may_choose_the_wait_but_not_make_up_a_retry),
      TEST(what_has_begun_is_leased_and_the_rest_goes_back),
      TEST(a_batch_that_is_parked_teaches_that_its_queue_waits),
      TEST(a_queue_learns_of_the_jobs_that_have_ended_what_kept_them_busy),
      TEST(without_a_culprit_the_death_is_counted_for_jobs_that_had_begun),
      TEST(a_job_that_has_seen_a_death_and_was_alone_is_to_blame),
      TEST(every_outcome_is_written_by_its_statement),
      TEST(a_failure_is_only_discarded_when_no_retry_is_left),
      TEST(every_attempt_is_recorded_if_it_was_asked_for),
      TEST(a_lease_lasts_as_long_as_was_set_or_as_its_transaction_may),
      TEST(a_snooze_is_written_with_its_wait),
      TEST(the_log_tells_of_what_ended),
      TEST(a_job_that_its_handler_has_settled_has_completed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
