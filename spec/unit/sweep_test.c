#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sweep.h"

static void the_first_sweep_is_free(void **state) {
  (void)state;
  struct sweep sweep = {0};
  assert_int_equal(sweep_wait_ms(&sweep, 1), 0);
  assert_int_equal(sweep_wait_ms(&sweep, 123456789), 0);
}

static void sweeps_take_a_fortieth_of_the_time(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_begin(&sweep, 1000);
  sweep_saw(&sweep, 1100, 100, true);
  assert_int_equal(sweep_wait_ms(&sweep, 1100), 3900);
  assert_int_equal(sweep_wait_ms(&sweep, 4999), 1);
  assert_int_equal(sweep_wait_ms(&sweep, 5000), 0);
  assert_int_equal(sweep_wait_ms(&sweep, 6000), 0);
}

static void one_that_took_no_longer_than_other_claims_costs_nothing(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_begin(&sweep, 1000);
  sweep_saw(&sweep, 1000, 0, true);
  assert_int_equal(sweep_wait_ms(&sweep, 1000), 0);
  for (int i = 0; i < 100; i++)
    sweep_saw(&sweep, 1000, 8, false);
  sweep_saw(&sweep, 2000, 8, true);
  assert_in_range(sweep_wait_ms(&sweep, 2000), 0, 1);
  sweep_saw(&sweep, 3000, 108, true);
  assert_in_range(sweep_wait_ms(&sweep, 3000), 3900, 3901);
  sweep_saw(&sweep, 9000, 3, true); /* shorter than usual: the time for the next sweep does not change */
  assert_int_equal(sweep_wait_ms(&sweep, 9000), 0);
}

static void under_load_there_is_one_a_second(void **state) {
  (void)state;
  struct sweep sweep = {0};
  assert_true(sweep_is_wanted(&sweep, 5000));
  sweep_begin(&sweep, 5000);
  assert_false(sweep_is_wanted(&sweep, 5001)); /* while one is under way */
  sweep_saw(&sweep, 5001, 1, true);
  assert_false(sweep_is_wanted(&sweep, 5999));
  assert_true(sweep_is_wanted(&sweep, 6000));
}

static void under_load_a_slow_one_is_paid_for_first(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_begin(&sweep, 5000);
  sweep_saw(&sweep, 5200, 200, true);
  assert_false(sweep_is_wanted(&sweep, 6000));
  assert_false(sweep_is_wanted(&sweep, 12999));
  assert_true(sweep_is_wanted(&sweep, 13000));
}

static void a_quick_one_does_not_pay_for_a_slow_one(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_saw(&sweep, 1000, 1000, true);
  sweep_saw(&sweep, 1001, 1, true); /* the look before sleep goes with the sweep before it */
  assert_int_equal(sweep_wait_ms(&sweep, 1001), 38999);
}

static void one_that_was_never_answered_does_not_stand_in_the_way(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_begin(&sweep, 1000);
  assert_int_equal(sweep_wait_ms(&sweep, 1001), 0);
  assert_true(sweep_is_wanted(&sweep, 2000));
}

static void while_another_worker_sweeps_the_waits_grow(void **state) {
  (void)state;
  struct sweep sweep = {0};
  sweep_deny(&sweep, 1000);
  assert_int_equal(sweep_wait_ms(&sweep, 1000), 40);
  sweep_deny(&sweep, 2000);
  assert_int_equal(sweep_wait_ms(&sweep, 2000), 80);
  for (int i = 0; i < 10; i++)
    sweep_deny(&sweep, 3000);
  assert_int_equal(sweep_wait_ms(&sweep, 3000), 640);
  sweep_saw(&sweep, 5000, 0, true);
  sweep_deny(&sweep, 6000);
  assert_int_equal(sweep_wait_ms(&sweep, 6000), 40);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_sweep_is_free),
      cmocka_unit_test(sweeps_take_a_fortieth_of_the_time),
      cmocka_unit_test(one_that_took_no_longer_than_other_claims_costs_nothing),
      cmocka_unit_test(under_load_there_is_one_a_second),
      cmocka_unit_test(under_load_a_slow_one_is_paid_for_first),
      cmocka_unit_test(a_quick_one_does_not_pay_for_a_slow_one),
      cmocka_unit_test(one_that_was_never_answered_does_not_stand_in_the_way),
      cmocka_unit_test(while_another_worker_sweeps_the_waits_grow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
