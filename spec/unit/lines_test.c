#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lines.h"

static FILE *file;
static struct lines lines;

static void given(const char *bytes, size_t length, size_t longest) {
  file = tmpfile();
  fwrite(bytes, 1, length, file);
  fflush(file);
  lseek(fileno(file), 0, SEEK_SET);
  lines = (struct lines){.fd = fileno(file), .longest = longest};
}

static void expect_line(const char *bytes, size_t length) {
  const void *line;
  size_t got;
  assert_int_equal(lines_next(&lines, &line, &got), LINES_LINE);
  assert_int_equal(got, length);
  if (length > 0)
    assert_memory_equal(line, bytes, length);
}

static void expect_no_line(enum lines_result result) {
  const void *line;
  size_t length;
  assert_int_equal(lines_next(&lines, &line, &length), result);
}

static int tear_down(void **state) {
  (void)state;
  lines_free(&lines);
  fclose(file);
  return 0;
}

static void a_newline_ends_a_line_and_is_no_part_of_it(void **state) {
  (void)state;
  given("one\n\n\0\r\nlast", 12, 100);
  expect_line("one", 3);
  expect_line("", 0);
  expect_line("\0\r", 2);
  assert_int_equal(lines.bytes, 8);
  expect_line("last", 4);
  expect_no_line(LINES_END);
  expect_no_line(LINES_END);
  assert_int_equal(lines.count, 4);
  assert_int_equal(lines.bytes, 12);
}

static void no_bytes_are_no_lines(void **state) {
  (void)state;
  given("", 0, 100);
  expect_no_line(LINES_END);
}

static void a_line_may_be_as_long_as_the_limit(void **state) {
  (void)state;
  given("12345\n12345", 11, 5);
  expect_line("12345", 5);
  expect_line("12345", 5);
  expect_no_line(LINES_END);
}

static void a_longer_line_is_refused(void **state) {
  (void)state;
  given("12345\n123456\n1", 14, 5);
  expect_line("12345", 5);
  expect_no_line(LINES_TOO_LONG);
  assert_int_equal(lines.count, 1);
}

static void a_longer_line_is_refused_without_a_newline_too(void **state) {
  (void)state;
  given("123456", 6, 5);
  expect_no_line(LINES_TOO_LONG);
}

static void lines_reach_over_what_is_read_at_once(void **state) {
  (void)state;
  enum { LONG = 200000, SHORT = 65535 };
  static char bytes[LONG + SHORT + 2], *at = bytes;
  memset(bytes, 'a', sizeof bytes);
  at[LONG] = at[LONG + SHORT + 1] = '\n';
  given(bytes, sizeof bytes, LONG);
  expect_line(bytes, LONG);
  expect_line(bytes, SHORT);
  expect_no_line(LINES_END);
}

static void what_cannot_be_read_says_so(void **state) {
  (void)state;
  given("", 0, 100);
  lines.fd = -1;
  expect_no_line(LINES_UNREADABLE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_newline_ends_a_line_and_is_no_part_of_it, tear_down),
      cmocka_unit_test_teardown(no_bytes_are_no_lines, tear_down),
      cmocka_unit_test_teardown(a_line_may_be_as_long_as_the_limit, tear_down),
      cmocka_unit_test_teardown(a_longer_line_is_refused, tear_down),
      cmocka_unit_test_teardown(a_longer_line_is_refused_without_a_newline_too, tear_down),
      cmocka_unit_test_teardown(lines_reach_over_what_is_read_at_once, tear_down),
      cmocka_unit_test_teardown(what_cannot_be_read_says_so, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
