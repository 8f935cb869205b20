#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "growing_wait.h"
#include "memory_limit.h"

static void a_wait_doubles_from_the_least_to_the_most(void **state) {
  static const int64_t expected[] = {100, 200, 400, 800, 1000, 1000};
  (void)state;
  int64_t wait_ms = 0;
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    wait_ms = growing_wait_after(wait_ms, 100, 1000);
    assert_int_equal(wait_ms, expected[i]);
  }
  assert_int_equal(growing_wait_after(INT64_MAX, 1, INT64_MAX), INT64_MAX);
}

static void memory_is_scarce_beyond_three_quarters_of_the_limit(void **state) {
  (void)state;
  assert_false(memory_is_scarce(75, 100));
  assert_true(memory_is_scarce(76, 100));
  assert_false(memory_is_scarce(UINT64_MAX, 0)); /* no limit */
}

static void the_memory_of_this_process_is_read(void **state) {
  struct memory_use use;
  (void)state;
  int fd = memory_use_open();
  assert_true(memory_use_read(fd, &use));
  assert_true(use.resident > 0 && use.data > 0);
  close(fd);
  assert_false(memory_use_read(-1, &use));
  assert_int_equal(use.resident, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_wait_doubles_from_the_least_to_the_most),
      cmocka_unit_test(memory_is_scarce_beyond_three_quarters_of_the_limit),
      cmocka_unit_test(the_memory_of_this_process_is_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
