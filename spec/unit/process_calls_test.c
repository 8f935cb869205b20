#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "process_calls.h"

static bool is_noted(long number, long argument) {
  process_calls_forget();
  syscall(number, argument, 0L, 0L, 0L, 0L, 0L);
  return process_calls_seen();
}

static void system_calls_by_number_are_noted(void **state) {
  (void)state;
  assert_true(is_noted(SYS_umask, 022));
  assert_true(is_noted(SYS_chdir, 0));
  assert_true(is_noted(SYS_close, 3)); /* the executor's socket; here nobody has one */
}

/* A handler that uses libuv makes these with each socket that it closes and each file that it looks at. */
static void those_that_change_nothing_are_not(void **state) {
  (void)state;
  assert_false(is_noted(SYS_close, 1000));
  assert_false(is_noted(SYS_statx, -1));
  assert_false(is_noted(SYS_getrandom, 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(system_calls_by_number_are_noted),
      cmocka_unit_test(those_that_change_nothing_are_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
