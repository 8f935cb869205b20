#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "batch.h"
#include "clock.h"
#include "database_clock.h"
#include "tally.h"

static void a_time_is_in_the_first_bucket_that_is_longer(void **state) {
  (void)state;
  assert_int_equal(tally_bucket(-5), 0);
  assert_int_equal(tally_bucket(0), 0);
  assert_int_equal(tally_bucket(999), 0);
  assert_int_equal(tally_bucket(1000), 1);
  assert_int_equal(tally_bucket(1999), 1);
  assert_int_equal(tally_bucket(2000), 2);
  assert_int_equal(tally_bucket(3999), 2);
  assert_int_equal(tally_bucket(INT64_C(1000) << 29), 30);
  assert_int_equal(tally_bucket(INT64_C(1000) << 30), 31);
  assert_int_equal(tally_bucket(INT64_MAX), 31);
}

static void jobs_are_counted_by_how_they_ended(void **state) {
  (void)state;
  struct queue queue = {0};
  database_clock_set(1000000000);
  int64_t began_us = clock_us(), due_us = database_clock_at(began_us) - 5000;
  struct job jobs[] = {
      {.outcome = OUTCOME_COMPLETE, .began_us = began_us, .duration_us = 700},
      {.outcome = OUTCOME_SETTLED, .began_us = began_us, .duration_us = 700},
      {.outcome = OUTCOME_FAIL, .began_us = began_us, .duration_us = 700, .next_wait_ms = 1},
      {.outcome = OUTCOME_FAIL, .next_wait_ms = NO_NEXT_WAIT}, /* it did not begin */
      {.outcome = OUTCOME_SNOOZE, .began_us = began_us, .duration_us = 700},
      {.outcome = OUTCOME_CANCELLED, .began_us = began_us, .duration_us = 700, .written = true},
      {.outcome = OUTCOME_CANCELLED, .began_us = began_us, .duration_us = 700}, /* its lease was lost in another way */
      {.outcome = OUTCOME_UNRUN},
      {.outcome = OUTCOME_LEASE},
      {.outcome = OUTCOME_DEATH},
  };
  struct batch batch = {.jobs = jobs, .count = sizeof jobs / sizeof jobs[0]};
  for (int i = 0; i < batch.count; i++) {
    jobs[i].queue = &queue;
    jobs[i].run_after_us = due_us;
  }
  assert_true(tally_is_empty(&queue.tally));
  assert_int_equal(tally_batch(&batch), 6);
  assert_int_equal(queue.tally.completed, 2);
  assert_int_equal(queue.tally.retried, 1);
  assert_int_equal(queue.tally.failed, 1);
  assert_int_equal(queue.tally.snoozed, 1);
  assert_int_equal(queue.tally.cancelled, 1);
  assert_int_equal(queue.tally.run_us, 4 * 700);
  assert_int_equal(queue.tally.wait_us, 4 * 5000);
  assert_int_equal(queue.tally.runs[0], 4);
  assert_int_equal(queue.tally.waits[3], 4);
  struct tally written = queue.tally;
  tally_batch(&batch);
  tally_subtract(&queue.tally, &written);
  assert_memory_equal(&queue.tally, &written, sizeof written);
  tally_subtract(&queue.tally, &written);
  assert_true(tally_is_empty(&queue.tally));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_time_is_in_the_first_bucket_that_is_longer),
      cmocka_unit_test(jobs_are_counted_by_how_they_ended),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
