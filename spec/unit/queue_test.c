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
    assert_int_equal(queue_back_off(&queue, now_ms), pauses[i]);
    assert_true(queue_is_paused(&queue, now_ms + pauses[i] - 1));
    now_ms += pauses[i];
    assert_false(queue_is_paused(&queue, now_ms));
  }
  assert_int_equal(queue.batch, 1);
}

static void a_backoff_during_a_pause_does_not_count(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  assert_int_equal(queue_back_off(&queue, 1000), 100);
  assert_int_equal(queue_back_off(&queue, 1050), 0);
  assert_int_equal(queue_back_off(&queue, 1100), 200);
}

static void the_first_success_resets_backoff(void **state) {
  (void)state;
  struct queue queue = {.batch = 1};
  queue_back_off(&queue, 1000);
  queue_back_off(&queue, 2000);
  queue_succeeded(&queue);
  assert_int_equal(queue_back_off(&queue, 3000), 100);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_queue_is_found_by_its_name),
      cmocka_unit_test(backoff_doubles_from_100_ms_to_a_minute),
      cmocka_unit_test(a_backoff_during_a_pause_does_not_count),
      cmocka_unit_test(the_first_success_resets_backoff),
      cmocka_unit_test(batches_double_to_what_fits_into_50_ms),
      cmocka_unit_test(a_queue_that_turns_slow_is_claimed_job_by_job),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
