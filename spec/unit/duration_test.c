#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "duration.h"
#include "retry_waits.h"

#define HOUR INT64_C(3600000)
#define MINUTE INT64_C(60000)

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef int parse_function(const char *, size_t, int64_t *, const char **);

/* The cases that SQL and Lua are tested with, too; the file says how a line is read. */
static const char cases_file[] = "spec/support/durations.txt";

static void expect_read(parse_function *parse, const char *text, int64_t expected_ms) {
  int64_t ms = -1;
  const char *problem = "";
  if (parse(text, strlen(text), &ms, &problem) != 0)
    fail_msg("\"%s\" was refused: the duration %s", text, problem);
  if (ms != expected_ms)
    fail_msg("\"%s\" is %lld ms, expected %lld", text, (long long)ms, (long long)expected_ms);
}

static void expect_refused(parse_function *parse, const char *text, const char *expected) {
  int64_t ms = -77;
  const char *problem = NULL;
  if (parse(text, strlen(text), &ms, &problem) == 0)
    fail_msg("\"%s\" was read as %lld ms", text, (long long)ms);
  assert_int_equal(ms, -77);
  assert_non_null(problem);
  if (strcmp(problem, expected) != 0)
    fail_msg("\"%s\": the duration %s; expected: %s", text, problem, expected);
}

/* Calls expect() with the text and the result of each line that begins with `word`; returns how many there are. */
static int for_each_case(const char *word, void (*expect)(const char *text, const char *result)) {
  char line[256];
  int count = 0;
  FILE *file = fopen(cases_file, "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file)) {
    size_t length = strlen(word);
    char *bar = strchr(line, '|');
    if (strncmp(line, word, length) != 0 || line[length] != ' ' || !bar)
      continue;
    line[strcspn(line, "\n")] = '\0';
    *bar = '\0';
    expect(line + length + 1, bar + 1);
    count++;
  }
  fclose(file);
  return count;
}

static void expect_both_read(const char *text, const char *ms) {
  expect_read(duration_parse, text, strtoll(ms, NULL, 10));
  expect_read(duration_parse_option, text, strtoll(ms, NULL, 10));
}

static void expect_option_only(const char *text, const char *ms) {
  expect_read(duration_parse_option, text, strtoll(ms, NULL, 10));
  expect_refused(duration_parse, text, "has a number without a unit");
}

static void expect_both_refuse(const char *text, const char *problem) {
  expect_refused(duration_parse, text, problem);
  expect_refused(duration_parse_option, text, problem);
}

static void the_text_form_of_go_is_read(void **state) {
  (void)state;
  assert_true(for_each_case("read", expect_both_read) >= 35);
}

static void what_go_refuses_is_refused(void **state) {
  (void)state;
  assert_true(for_each_case("refuse", expect_both_refuse) >= 30);
  expect_both_refuse("1\xb5s", "has an unknown unit"); /* not UTF-8: only C can be given that */
}

static void a_bare_number_is_seconds_in_an_option_only(void **state) {
  (void)state;
  assert_true(for_each_case("option", expect_option_only) >= 8);
  expect_refused(duration_parse, "00", "has a number without a unit");
  expect_refused(duration_parse, "-5", "has a number without a unit");
  expect_refused(duration_parse_option, "-5", "is negative");
  expect_refused(duration_parse_option, "-0.001", "is negative");
  expect_refused(duration_parse_option, "9223372037", "is too long");
  expect_refused(duration_parse_option, "99999999999999999999", "is too long");
}

/* The waits that jobs have by default are in three forms. */
static void the_default_retry_waits_are_durations(void **state) {
  (void)state;
  char waits[] = RETRY_WAITS_DEFAULT;
  int count = 0;
  for (char *wait = strtok(waits, "{,}"); wait; wait = strtok(NULL, "{,}"), count++) {
    int64_t ms;
    const char *problem;
    assert_int_equal(duration_parse(wait, strlen(wait), &ms, &problem), 0);
    if (count == 0)
      assert_int_equal(ms, RETRY_WAITS_DEFAULT_FIRST_MS);
  }
  assert_int_equal(count, RETRY_WAITS_DEFAULT_COUNT);
}

static void bytes_beyond_the_length_are_not_read(void **state) {
  (void)state;
  const char *problem;
  int64_t ms = 0;
  assert_int_equal(duration_parse("1msXYZ", 3, &ms, &problem), 0);
  assert_int_equal(ms, 1);
  assert_int_equal(duration_parse("1s\0s", 4, &ms, &problem), -1);
  assert_string_equal(problem, "has an unknown unit");
  assert_int_equal(duration_parse("5s", 0, &ms, &problem), -1);
  assert_string_equal(problem, "is empty");
}

static void durations_are_written_as_go_writes_them(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t ms;
  } cases[] = {
      {"0s", 0},
      {"1ms", 1},
      {"999ms", 999},
      {"1s", 1000},
      {"1.5s", 1500},
      {"1.001s", 1001},
      {"1.01s", 1010},
      {"59.999s", 59999},
      {"1m0s", MINUTE},
      {"1m0.25s", MINUTE + 250},
      {"10m0s", 10 * MINUTE},
      {"1h0m0s", HOUR},
      {"1h30m0s", 90 * MINUTE},
      {"1h0m0.5s", HOUR + 500},
      {"24h0m1s", 24 * HOUR + 1000},
      {"2562047h47m16.854s", DURATION_MAX_MS},
      {"-250ms", -250},
      {"-1m0s", -MINUTE},
      {"-2562047788015h12m55.808s", INT64_MIN},
      {"2562047788015h12m55.807s", INT64_MAX},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    char text[DURATION_TEXT_SIZE];
    duration_format(cases[i].ms, text);
    assert_string_equal(text, cases[i].text);
  }
}

static void what_is_written_is_read_back(void **state) {
  (void)state;
  int64_t step = 1;
  for (int64_t ms = 0; ms <= DURATION_MAX_MS - step; ms += step, step += ms / 50 + 1) {
    char text[DURATION_TEXT_SIZE];
    int64_t back = -1;
    const char *problem = "";
    duration_format(ms, text);
    if (duration_parse(text, strlen(text), &back, &problem) != 0)
      fail_msg("\"%s\" was refused: the duration %s", text, problem);
    assert_int_equal(back, ms);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_text_form_of_go_is_read),
      cmocka_unit_test(what_go_refuses_is_refused),
      cmocka_unit_test(a_bare_number_is_seconds_in_an_option_only),
      cmocka_unit_test(the_default_retry_waits_are_durations),
      cmocka_unit_test(bytes_beyond_the_length_are_not_read),
      cmocka_unit_test(durations_are_written_as_go_writes_them),
      cmocka_unit_test(what_is_written_is_read_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
