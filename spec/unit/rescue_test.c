#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "binary.h"
#include "log.h"
#include "memory.h"
#include "rescue.h"

enum { FIRST_ID = 100, MOST = 8 };

/* ── the log: the last line ── */

static char logged[128];
static enum log_level logged_level;
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

/* ── a hold's batch, and its rescue ── */

static struct queue_list queues;
static struct batch batch;
static struct rescue rescue;
static struct parameters parameters;
static int64_t lost[MOST];
static int lost_count;

static void on_lost(void *context, int64_t id) {
  assert_ptr_equal(context, &rescue);
  lost[lost_count++] = id;
}

static int set_up(void **state) {
  (void)state;
  batch = (struct batch){.number = 7};
  rescue = (struct rescue){0};
  parameters = (struct parameters){0};
  lost_count = lines = 0;
  logged[0] = '\0';
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  batch_clear(&batch);
  rescue_free(&rescue);
  parameters_free(&parameters);
  queue_list_free(&queues);
  queues = (struct queue_list){0};
  return 0;
}

/* Adds a job with this outcome to the batch; its id is FIRST_ID plus the number of jobs before it. */
static struct job *add(enum outcome outcome) {
  batch_add(&batch, &(struct job){.id = FIRST_ID + batch.count,
                                  .queue = queue_find(&queues, "mail"),
                                  .attempt = 1,
                                  .retries_left = 3,
                                  .next_wait_ms = 60000,
                                  .outcome = outcome,
                                  .tid = 42,
                                  .written = true});
  struct job *job = &batch.jobs[batch.count - 1];
  if (outcome == OUTCOME_FAIL)
    job_fail(job, "no luck");
  return job;
}

static void lease(struct job *job, int64_t token) {
  job->leased = true;
  job->lease = token;
}

static void expect_ids(const struct batch *jobs, const int64_t *ids, int count) {
  assert_int_equal(jobs->count, count);
  for (int i = 0; i < count; i++)
    assert_int_equal(jobs->jobs[i].id, ids[i]);
}

static void only_jobs_with_something_to_be_written_are_kept(void **state) {
  (void)state;
  add(OUTCOME_COMPLETE);
  add(OUTCOME_UNRUN);           /* held by the transaction that is gone: due again by itself */
  lease(add(OUTCOME_UNRUN), 5); /* its lease is in the row */
  add(OUTCOME_SETTLED);         /* its handler's transaction has written it */
  add(OUTCOME_FAIL);
  add(OUTCOME_LEASE);
  rescue_keep(&rescue, &batch);
  assert_int_equal(batch.count, 0);
  expect_ids(&rescue.jobs, (int64_t[]){FIRST_ID, FIRST_ID + 2, FIRST_ID + 4, FIRST_ID + 5}, 4);
}

static void a_kept_job_is_found_by_its_id_and_has_its_outcome_and_error(void **state) {
  (void)state;
  add(OUTCOME_FAIL);
  rescue_keep(&rescue, &batch);
  const struct job *job = &rescue.jobs.jobs[0];
  assert_int_equal(job->tid, 0);
  assert_false(job->written);
  assert_int_equal(job->outcome, OUTCOME_FAIL);
  assert_string_equal(job->error, "no luck");
}

static void what_is_rescued_later_comes_behind_what_was_rescued_before(void **state) {
  (void)state;
  add(OUTCOME_COMPLETE);
  rescue_keep(&rescue, &batch);
  add(OUTCOME_COMPLETE)->id = 7;
  rescue_keep(&rescue, &batch);
  expect_ids(&rescue.jobs, (int64_t[]){FIRST_ID, 7}, 2);
}

static void jobs_whose_writes_changed_no_row_are_kept_and_their_queue_waits(void **state) {
  (void)state;
  struct queue *queue = queue_find(&queues, "mail");
  add(OUTCOME_COMPLETE);
  add(OUTCOME_COMPLETE)->written = false;
  add(OUTCOME_UNRUN)->written = false; /* nothing to write */
  assert_int_equal(rescue_keep_ignored(&rescue, &batch), 1);
  assert_int_equal(batch.count, 2);
  expect_ids(&rescue.jobs, (int64_t[]){FIRST_ID + 1}, 1);
  assert_int_equal(queue->ignored, 1);
  assert_null(rescue_find_ignored(&rescue.jobs)); /* once proves nothing */
  batch_clear(&batch);
  (void)rescue_next(&rescue, &batch, &parameters);
  assert_int_equal(rescue_keep_ignored(&rescue, &batch), 2);
  assert_non_null(rescue_find_ignored(&rescue.jobs));
  assert_int_equal(queue->ignored, 1);
  batch_clear(&rescue.jobs);
  assert_int_equal(queue->ignored, 0);
}

static void a_job_that_ended_before_its_lease_was_written_is_settled_without_it(void **state) {
  (void)state;
  struct job *copy = add(OUTCOME_LEASE);
  int64_t id = copy->id;
  lease(copy, 5);
  copy->written = false;
  struct job *job = add(OUTCOME_COMPLETE);
  job->id = id;
  job->written = false;
  lease(job, 5);
  rescue_keep_ignored(&rescue, &batch);
  expect_ids(&rescue.jobs, &id, 1);
  assert_int_equal(rescue.jobs.jobs[0].outcome, OUTCOME_COMPLETE);
  assert_false(rescue.jobs.jobs[0].leased);
}

static void all_jobs_are_tried_together(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++)
    add(OUTCOME_COMPLETE);
  rescue_keep(&rescue, &batch);
  rescue_next(&rescue, &batch, &parameters);
  expect_ids(&batch, (int64_t[]){FIRST_ID, FIRST_ID + 1, FIRST_ID + 2}, 3);
  assert_int_equal(rescue.jobs.count, 0);
  assert_true(parameters.count > 0);
}

static void or_one_at_a_time_in_their_order_when_one_of_them_makes_the_settling_fail(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++)
    add(OUTCOME_COMPLETE);
  rescue_keep(&rescue, &batch);
  rescue.singly = true;
  for (int i = 0; i < 3; i++) {
    rescue_next(&rescue, &batch, &parameters);
    expect_ids(&batch, (int64_t[]){FIRST_ID + i}, 1);
    assert_int_equal(rescue.jobs.count, 2 - i);
    batch_clear(&batch);
    parameters_free(&parameters);
    parameters = (struct parameters){0};
  }
}

static void jobs_whose_rows_could_not_be_locked_are_forgotten(void **state) {
  (void)state;
  add(OUTCOME_COMPLETE);
  add(OUTCOME_FAIL)->written = false;
  add(OUTCOME_FAIL);
  rescue_sort(&rescue, &batch, on_lost, &rescue);
  expect_ids(&batch, (int64_t[]){FIRST_ID, FIRST_ID + 2}, 2);
  assert_false(batch.jobs[0].written); /* locked is not yet settled */
  assert_false(batch.jobs[1].written);
  assert_string_equal(batch.jobs[1].error, "no luck");
  assert_int_equal(lost_count, 0);
  assert_int_equal(lines, 1);
  assert_int_equal(logged_level, LOG_INFO);
}

static void the_executor_is_told_of_a_job_that_was_to_be_leased_and_was_not_locked(void **state) {
  (void)state;
  add(OUTCOME_LEASE)->written = false;
  add(OUTCOME_UNRUN)->written = false;
  rescue_sort(&rescue, &batch, on_lost, &rescue);
  assert_int_equal(batch.count, 0);
  assert_int_equal(lost_count, 1);
  assert_int_equal(lost[0], FIRST_ID);
  assert_int_equal(lines, 0);
}

static void a_job_whose_row_is_only_locked_is_tried_again_later(void **state) {
  (void)state;
  struct job *job = add(OUTCOME_LEASE);
  job->written = false;
  job->locked_elsewhere = true;
  add(OUTCOME_COMPLETE);
  rescue_sort(&rescue, &batch, on_lost, &rescue);
  expect_ids(&batch, (int64_t[]){FIRST_ID + 1}, 1);
  expect_ids(&rescue.jobs, (int64_t[]){FIRST_ID}, 1);
  assert_int_equal(lost_count, 0);
  assert_true(rescue.locked);
  assert_false(rescue_is_due(&rescue));
  rescue.again_ms = 0;
  assert_true(rescue_is_due(&rescue));
  assert_false(rescue.jobs.jobs[0].locked_elsewhere);
}

static void after_a_lost_session_the_first_attempt_waits_for_locks(void **state) {
  (void)state;
  add(OUTCOME_COMPLETE);
  rescue_keep(&rescue, &batch);
  rescue.wait = true;
  assert_int_equal(rescue_next(&rescue, &batch, &parameters), STATEMENT_WAIT_FOR_RESCUE);
  parameters_free(&parameters);
  parameters = (struct parameters){0};
  rescue_keep(&rescue, &batch);
  assert_int_equal(rescue_next(&rescue, &batch, &parameters), STATEMENT_LOCK_FOR_RESCUE);
}

/* The number of elements of the first parameter, an array. */
static uint32_t elements(void) {
  uint32_t count;
  memcpy(&count, (const char *)parameters.bytes.bytes + parameters.offsets[0] + 12, sizeof count);
  return __builtin_bswap32(count);
}

static void a_job_whose_lease_may_have_been_written_is_looked_for_with_and_without_it(void **state) {
  (void)state;
  lease(add(OUTCOME_LEASE), 5);
  rescue_keep(&rescue, &batch);
  (void)rescue_next(&rescue, &batch, &parameters);
  assert_int_equal(elements(), 2);
}

static void so_is_the_outcome_of_a_job_that_has_ended_meanwhile(void **state) {
  (void)state;
  lease(add(OUTCOME_LEASE), 5);
  *add(OUTCOME_COMPLETE) = (struct job){
      .id = FIRST_ID, .queue = batch.jobs[0].queue, .leased = true, .lease = 5, .outcome = OUTCOME_COMPLETE};
  lease(add(OUTCOME_COMPLETE), 6); /* its lease was written before */
  rescue_keep(&rescue, &batch);
  (void)rescue_next(&rescue, &batch, &parameters);
  assert_int_equal(elements(), 5);
}

static void a_job_that_cannot_be_settled_fails_for_good_with_the_message_of_the_database(void **state) {
  (void)state;
  struct job *job = add(OUTCOME_COMPLETE);
  rescue_blame(job, "too long");
  assert_int_equal(job->outcome, OUTCOME_FAIL);
  assert_int_equal(job->retries_left, 0);
  assert_string_equal(job->error, "could not be settled: too long");
  assert_int_equal(logged_level, LOG_ERROR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(only_jobs_with_something_to_be_written_are_kept),
      TEST(a_kept_job_is_found_by_its_id_and_has_its_outcome_and_error),
      TEST(what_is_rescued_later_comes_behind_what_was_rescued_before),
      TEST(jobs_whose_writes_changed_no_row_are_kept_and_their_queue_waits),
      TEST(a_job_that_ended_before_its_lease_was_written_is_settled_without_it),
      TEST(all_jobs_are_tried_together),
      TEST(or_one_at_a_time_in_their_order_when_one_of_them_makes_the_settling_fail),
      TEST(jobs_whose_rows_could_not_be_locked_are_forgotten),
      TEST(the_executor_is_told_of_a_job_that_was_to_be_leased_and_was_not_locked),
      TEST(a_job_whose_row_is_only_locked_is_tried_again_later),
      TEST(after_a_lost_session_the_first_attempt_waits_for_locks),
      TEST(a_job_whose_lease_may_have_been_written_is_looked_for_with_and_without_it),
      TEST(so_is_the_outcome_of_a_job_that_has_ended_meanwhile),
      TEST(a_job_that_cannot_be_settled_fails_for_good_with_the_message_of_the_database),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
