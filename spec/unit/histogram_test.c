/* Tests of histogram.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "histogram.h"

static int64_t quantile(const char *buckets, double fraction) {
  struct histogram histogram = {0};
  histogram_add(&histogram, buckets);
  return histogram_quantile(&histogram, fraction);
}

static void without_times_there_is_no_quantile(void **state) {
  (void)state;
  assert_int_equal(quantile(NULL, 0.5), -1);
  assert_int_equal(quantile("{}", 0.5), -1);
  assert_int_equal(quantile("{0,0,0}", 0.5), -1);
}

static void quantiles_are_within_their_bucket(void **state) {
  (void)state;
  assert_int_equal(quantile("{10}", 0.5), 1);
  assert_int_equal(quantile("{0,10}", 0.5), 2);          /* 1 to 2 ms */
  assert_int_equal(quantile("{0,0,0,0,100}", 0.5), 12);  /* 8 to 16 ms */
  assert_int_equal(quantile("{0,0,0,0,100}", 0.95), 16); /* 15.6 */
  assert_int_equal(quantile("{50,0,0,0,50}", 0.5), 1);
  assert_int_equal(quantile("{50,0,0,0,50}", 0.95), 16);
  assert_int_equal(quantile("{0,0,0,0,90,0,0,0,10}", 0.95), 192);
  assert_int_equal(quantile("{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,9}", 1), 2097152);
}

static void histograms_are_added(void **state) {
  (void)state;
  struct histogram histogram = {0};
  histogram_add(&histogram, "{50}");
  histogram_add(&histogram, "{0,0,0,0,50}");
  histogram_add(&histogram, NULL);
  histogram_add(&histogram, "{}");
  assert_int_equal(histogram_quantile(&histogram, 0.5), 1);
  assert_int_equal(histogram_quantile(&histogram, 0.75), 12);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_times_there_is_no_quantile),
      cmocka_unit_test(quantiles_are_within_their_bucket),
      cmocka_unit_test(histograms_are_added),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
