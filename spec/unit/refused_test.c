#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"
#include "fake_clock.h"
#include "refused.h"

static struct queue_list queues;
static struct refused refused;
static struct batch batch;

static int set_up(void **state) {
  (void)state;
  fake_clock_reset();
  refused = (struct refused){0};
  batch = (struct batch){0};
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  batch_clear(&batch);
  refused_free(&refused);
  queue_list_free(&queues);
  return 0;
}

static void pass_ms(int64_t ms) {
  fake_clock_advance(ms * 1000);
}

static struct job job_of(int64_t id, enum outcome outcome) {
  return (struct job){.id = id, .queue = queue_find(&queues, "mail"), .attempt = 1, .outcome = outcome, .tid = 42};
}

static void keep(int64_t id, enum outcome outcome) {
  struct job job = job_of(id, outcome);
  refused_keep(&refused, &job);
}

static void take(int64_t id) {
  struct parameters parameters = {0};
  assert_true(refused_is_due(&refused));
  assert_int_equal(refused_next(&refused, &batch, &parameters), STATEMENT_LOCK_FOR_RESCUE);
  assert_int_equal(batch.count, 1);
  assert_int_equal(batch.jobs[0].id, id);
  assert_int_equal(batch.jobs[0].tid, 0);
  batch.count = 0;
  parameters_free(&parameters);
}

static void a_job_is_tried_again_after_waits_that_grow_to_a_minute(void **state) {
  (void)state;
  static const int waits_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
  struct job job = job_of(1, OUTCOME_COMPLETE);
  for (size_t i = 0; i < sizeof waits_ms / sizeof waits_ms[0]; i++) {
    refused_keep(&refused, &job);
    pass_ms(waits_ms[i] - 1);
    assert_false(refused_is_due(&refused));
    pass_ms(1);
    take(1);
    job = batch.jobs[0];
  }
  job_free(&job);
  assert_int_equal(queue_find(&queues, "mail")->ignored, 0);
}

static void all_are_due_once_one_was_written(void **state) {
  (void)state;
  for (int64_t id = 1; id <= 3; id++)
    keep(id, OUTCOME_COMPLETE);
  assert_false(refused_is_due(&refused));
  refused_retry(&refused);
  for (int64_t id = 1; id <= 3; id++)
    take(id);
  assert_false(refused_is_due(&refused));
}

static void claims_leave_them_out_and_those_that_could_not_be_leased_for_a_while(void **state) {
  (void)state;
  int64_t ids[2];
  struct job unrun = job_of(2, OUTCOME_UNRUN);
  keep(1, OUTCOME_COMPLETE);
  assert_true(refused_keep_unrun(&refused, &unrun));
  assert_int_equal(refused_count(&refused), 2);
  assert_int_equal(refused_ids(&refused, ids), 2);
  assert_int_equal(ids[0], 1);
  assert_int_equal(ids[1], 2);
  pass_ms(1000);
  assert_int_equal(refused_ids(&refused, ids), 1);
  assert_false(refused_keep_unrun(&refused, &unrun)); /* it is known, and waits for longer */
  pass_ms(1999);
  assert_int_equal(refused_ids(&refused, ids), 2);
  pass_ms(1);
  assert_int_equal(refused_ids(&refused, ids), 1);
  pass_ms(120000);
  assert_true(refused_keep_unrun(&refused, &unrun)); /* it was forgotten */
}

static void the_lease_of_a_job_that_has_ended_is_dropped(void **state) {
  (void)state;
  keep(1, OUTCOME_LEASE);
  keep(2, OUTCOME_COMPLETE);
  assert_false(refused_take_lease(&refused, 2));
  assert_true(refused_take_lease(&refused, 1));
  assert_false(refused_take_lease(&refused, 1));
  assert_int_equal(refused.jobs.count, 1);
}

static void a_queue_pauses_when_one_job_after_the_other_is_kept_until_an_outcome_is_written(void **state) {
  (void)state;
  struct queue *queue = queue_find(&queues, "mail");
  queue->batch = 100;
  queue_set_pause(queue, 0);
  keep(1, OUTCOME_COMPLETE);
  assert_int_equal(queue->batch, 1);
  assert_false(queue_is_shut(queue, clock_ms()));
  keep(2, OUTCOME_COMPLETE);
  assert_true(queue_is_shut(queue, clock_ms() + 999));
  assert_false(queue_is_shut(queue, clock_ms() + 1000));
  keep(3, OUTCOME_COMPLETE);
  assert_true(queue_is_shut(queue, clock_ms() + 1999));
  assert_true(queue_wrote(queue));
  assert_false(queue_is_shut(queue, clock_ms()));
  assert_false(queue_wrote(queue));
  keep(4, OUTCOME_COMPLETE);
  assert_false(queue_is_shut(queue, clock_ms()));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_job_is_tried_again_after_waits_that_grow_to_a_minute),
      TEST(all_are_due_once_one_was_written),
      TEST(claims_leave_them_out_and_those_that_could_not_be_leased_for_a_while),
      TEST(the_lease_of_a_job_that_has_ended_is_dropped),
      TEST(a_queue_pauses_when_one_job_after_the_other_is_kept_until_an_outcome_is_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
