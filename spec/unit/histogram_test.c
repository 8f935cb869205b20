/* Tests of histogram.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "histogram.h"

static void without_times_there_is_no_quantile(void **state) {
  (void)state;
  assert_int_equal(histogram_quantile(NULL, 0.5), -1);
  assert_int_equal(histogram_quantile("{}", 0.5), -1);
  assert_int_equal(histogram_quantile("{0,0,0}", 0.5), -1);
}

static void quantiles_are_within_their_bucket(void **state) {
  (void)state;
  assert_int_equal(histogram_quantile("{10}", 0.5), 1);
  assert_int_equal(histogram_quantile("{0,10}", 0.5), 2);          /* 1 to 2 ms */
  assert_int_equal(histogram_quantile("{0,0,0,0,100}", 0.5), 12);  /* 8 to 16 ms */
  assert_int_equal(histogram_quantile("{0,0,0,0,100}", 0.95), 16); /* 15.6 */
  assert_int_equal(histogram_quantile("{50,0,0,0,50}", 0.5), 1);
  assert_int_equal(histogram_quantile("{50,0,0,0,50}", 0.95), 16);
  assert_int_equal(histogram_quantile("{0,0,0,0,90,0,0,0,10}", 0.95), 192);
  assert_int_equal(histogram_quantile("{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,9}", 1), 2097152);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_times_there_is_no_quantile),
      cmocka_unit_test(quantiles_are_within_their_bucket),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
