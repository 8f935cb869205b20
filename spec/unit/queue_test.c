#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "queue.h"

static void a_queue_is_found_by_its_name(void **state) {
  (void)state;
  struct queue_list list = {0};
  struct queue *mail = queue_find(&list, "mail");
  assert_ptr_not_equal(mail, queue_find(&list, "Mail"));
  assert_ptr_equal(mail, queue_find(&list, "mail"));
  assert_int_equal(list.count, 2);
  queue_list_free(&list);
}

static void backoff_doubles_from_100_ms_to_a_minute(void **state) {
  (void)state;
  struct queue queue = {.batch = 8};
  static const int64_t pauses[] = {100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000};
  int64_t now_ms = 1000;
  for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
    assert_int_equal(queue_back_off(&queue, now_ms, NULL), pauses[i]);
    assert_true(queue_backs_off(&queue, now_ms + pauses[i] - 1));
    now_ms += pauses[i];
    assert_false(queue_is_shut(&queue, now_ms));
  }
  assert_int_equal(queue.batch, 1);
}

static void a_new_queue_is_paused_until_its_settings_are_known(void **state) {
  (void)state;
  struct queue_list list = {0};
  struct queue *queue = queue_find(&list, "mail");
  assert_true(queue_is_paused(queue, 1000));
  assert_int_equal(queue_opens_in_ms(queue, 1000), -1);
  queue_set_pause(queue, 0);
  assert_false(queue_is_shut(queue, 1000));
  queue_list_free(&list);
}

static void a_pause_and_a_backoff_do_not_end_each_other(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  queue_set_pause(&queue, 1050);
  assert_int_equal(queue_back_off(&queue, 1000, NULL), 100);
  assert_int_equal(queue_opens_in_ms(&queue, 1000), 100);
  queue_set_pause(&queue, 2000);
  assert_int_equal(queue_opens_in_ms(&queue, 1000), 1000);
  queue_end_backoff(&queue);
  assert_true(queue_is_shut(&queue, 1999));
  queue_set_pause(&queue, 0);
  assert_false(queue_is_shut(&queue, 1001));
  assert_int_equal(queue_back_off(&queue, 1001, NULL), 100);
}

static void a_backoff_during_a_backoff_does_not_count(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  assert_int_equal(queue_back_off(&queue, 1000, NULL), 100);
  assert_int_equal(queue_back_off(&queue, 1050, NULL), 0);
  assert_int_equal(queue_back_off(&queue, 1100, NULL), 200);
}

static void the_first_success_resets_backoff(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  queue_back_off(&queue, 1000, NULL);
  queue_back_off(&queue, 2000, NULL);
  queue_succeeded(&queue);
  assert_int_equal(queue_back_off(&queue, 3000, NULL), 100);
}

static void run(struct queue *queue, int jobs, int64_t each_us) {
  for (int i = 0; i < jobs; i++)
    queue_saw(queue, each_us);
  queue_learn(queue);
}

static void batches_double_to_what_fits_into_50_ms(void **state) {
  (void)state;
  struct queue quick = {.batch = 1}, middling = {.batch = 1}, slow = {.batch = 1};
  for (int want = 2; want <= 512; want *= 2) {
    run(&quick, quick.batch, 5);
    assert_int_equal(quick.batch, want);
  }
  run(&quick, quick.batch, 5);
  assert_int_equal(quick.batch, 1000);
  for (int i = 0; i < 20; i++) {
    run(&middling, middling.batch, 5000);
    run(&slow, slow.batch, 400000);
  }
  assert_int_equal(middling.batch, 10);
  assert_int_equal(slow.batch, 1);
}

static void a_queue_that_turns_slow_is_claimed_job_by_job(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  for (int i = 0; i < 20; i++)
    run(&queue, queue.batch, 10);
  run(&queue, 1, 1000000);
  assert_int_equal(queue.batch, 1);
}

/* Claims of a queue whose handlers wait are limited by the capacity. One job that has waited is enough for that. */
static void a_queue_waits_from_the_first_job_that_waited_until_dozens_have_not(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  int runs = 0;
  queue_saw_run(&queue, false, 1000);
  assert_false(queue_handlers_wait(&queue));
  queue_saw_run(&queue, true, 1000);
  assert_true(queue_handlers_wait(&queue));
  for (int i = 0; i < 100; i++)
    queue_saw_run(&queue, true, 1000);
  while (queue_handlers_wait(&queue)) {
    queue_saw_run(&queue, false, 1000);
    assert_in_range(++runs, 1, 48);
  }
  assert_in_range(runs, 24, 48);
}

static void a_queue_one_job_in_a_dozen_of_which_waits_waits(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  for (int i = 0; i < 120; i++) {
    queue_saw_run(&queue, i % 12 == 0, 1000);
    assert_true(queue_handlers_wait(&queue));
  }
}

static void a_queue_is_brief_when_its_jobs_are_with_their_waits(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  assert_false(queue_is_brief(&queue)); /* nothing is known */
  queue_saw_run(&queue, true, 12500);
  assert_true(queue_is_brief(&queue));
  queue_saw_run(&queue, true, 12501);
  assert_false(queue_is_brief(&queue));
  for (int i = 0; i < 40; i++)
    queue_saw_run(&queue, false, 1000);
  assert_true(queue_is_brief(&queue));
  queue_saw_run(&queue, false, 200000); /* one that takes long is enough */
  assert_false(queue_is_brief(&queue));
}

/* The size of a claim depends on the time in which jobs keep the executor busy, not on the time in which they wait. */
static void waits_do_not_make_claims_smaller(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  for (int i = 0; i < 20; i++) {
    for (int job = 0; job < queue.batch; job++)
      queue_saw_run(&queue, true, 60000000);
    run(&queue, queue.batch, 50);
  }
  assert_int_equal(queue.batch, 1000);
}

static void assert_floor(const struct queue *queue, int64_t us, int64_t id) {
  assert_true(queue->floor_us == us);
  assert_true(queue->floor_id == id);
}

static void a_new_queue_has_no_floor(void **state) {
  (void)state;
  struct queue_list list = {0};
  assert_floor(queue_find(&list, "mail"), FLOOR_US_LEAST, FLOOR_ID_LEAST);
  queue_list_free(&list);
}

static void a_full_claim_puts_the_floor_where_it_ended(void **state) {
  (void)state;
  struct queue queue = {.floor_us = FLOOR_US_LEAST, .floor_id = FLOOR_ID_LEAST};
  queue_set_floor(&queue, 5000000, 7, true);
  assert_floor(&queue, 5000000, 7);
  queue_set_floor(&queue, 5000000, 9, true);
  assert_floor(&queue, 5000000, 9);
}

static void a_full_sweep_goes_on_from_where_it_ended(void **state) {
  (void)state;
  struct queue queue = {.floor_us = 9000000, .floor_id = 100};
  queue_set_floor(&queue, 5000000, 7, true);
  assert_floor(&queue, 5000000, 7);
}

static void a_claim_that_was_not_full_leaves_a_second_to_those_who_commit_late(void **state) {
  (void)state;
  struct queue queue = {.floor_us = FLOOR_US_LEAST, .floor_id = FLOOR_ID_LEAST};
  queue_set_floor(&queue, 5000000, 7, false);
  assert_floor(&queue, 4000000, FLOOR_ID_LEAST);
}

static void a_claim_that_was_not_full_never_lowers_the_floor(void **state) {
  (void)state;
  struct queue queue = {.floor_us = 4500000, .floor_id = 3};
  queue_set_floor(&queue, 5000000, 7, false);
  assert_floor(&queue, 4500000, 3);
  queue_set_floor(&queue, 1000000, 1, false);
  assert_floor(&queue, 4500000, 3);
  queue_set_floor(&queue, 5500000, 8, false); /* exactly a second ahead: the ids below stay in sight */
  assert_floor(&queue, 4500000, 3);
}

static void a_floor_that_was_forgotten_is_below_all(void **state) {
  (void)state;
  struct queue queue = {.floor_us = 9000000, .floor_id = 100};
  queue_forget_floor(&queue);
  assert_floor(&queue, FLOOR_US_LEAST, FLOOR_ID_LEAST);
}

/* Jobs of all times (run_after -infinity), and of long before 2000. */
static void the_floor_does_not_wrap_at_the_end_of_time(void **state) {
  (void)state;
  struct queue queue = {.floor_us = FLOOR_US_LEAST, .floor_id = FLOOR_ID_LEAST};
  queue_set_floor(&queue, INT64_MIN, 7, false);
  assert_floor(&queue, INT64_MIN, FLOOR_ID_LEAST);
  queue_set_floor(&queue, INT64_MIN, 9, true);
  assert_floor(&queue, INT64_MIN, 9);
  queue_set_floor(&queue, -5000000, 11, false);
  assert_floor(&queue, -6000000, FLOOR_ID_LEAST);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_queue_is_found_by_its_name),
      cmocka_unit_test(backoff_doubles_from_100_ms_to_a_minute),
      cmocka_unit_test(a_backoff_during_a_backoff_does_not_count),
      cmocka_unit_test(a_new_queue_is_paused_until_its_settings_are_known),
      cmocka_unit_test(a_pause_and_a_backoff_do_not_end_each_other),
      cmocka_unit_test(the_first_success_resets_backoff),
      cmocka_unit_test(batches_double_to_what_fits_into_50_ms),
      cmocka_unit_test(a_queue_that_turns_slow_is_claimed_job_by_job),
      cmocka_unit_test(a_queue_waits_from_the_first_job_that_waited_until_dozens_have_not),
      cmocka_unit_test(a_queue_one_job_in_a_dozen_of_which_waits_waits),
      cmocka_unit_test(a_queue_is_brief_when_its_jobs_are_with_their_waits),
      cmocka_unit_test(waits_do_not_make_claims_smaller),
      cmocka_unit_test(a_new_queue_has_no_floor),
      cmocka_unit_test(a_full_claim_puts_the_floor_where_it_ended),
      cmocka_unit_test(a_full_sweep_goes_on_from_where_it_ended),
      cmocka_unit_test(a_claim_that_was_not_full_leaves_a_second_to_those_who_commit_late),
      cmocka_unit_test(a_claim_that_was_not_full_never_lowers_the_floor),
      cmocka_unit_test(a_floor_that_was_forgotten_is_below_all),
      cmocka_unit_test(the_floor_does_not_wrap_at_the_end_of_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
