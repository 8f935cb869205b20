#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "duration.h"

#define HOUR INT64_C(3600000)
#define MINUTE INT64_C(60000)

typedef int parse_function(const char *, size_t, int64_t *, const char **);

struct good {
  const char *text;
  int64_t ms;
};

struct bad {
  const char *text;
  const char *problem;
};

static void expect_good(parse_function *parse, const struct good *cases, size_t count) {
  for (size_t i = 0; i < count; i++) {
    int64_t ms = -1;
    const char *problem = "";
    if (parse(cases[i].text, strlen(cases[i].text), &ms, &problem) != 0)
      fail_msg("\"%s\" was refused: the duration %s", cases[i].text, problem);
    if (ms != cases[i].ms)
      fail_msg("\"%s\" is %lld ms, expected %lld", cases[i].text, (long long)ms, (long long)cases[i].ms);
  }
}

static void expect_bad(parse_function *parse, const struct bad *cases, size_t count) {
  for (size_t i = 0; i < count; i++) {
    int64_t ms = -77;
    const char *problem = NULL;
    if (parse(cases[i].text, strlen(cases[i].text), &ms, &problem) == 0)
      fail_msg("\"%s\" was read as %lld ms", cases[i].text, (long long)ms);
    assert_int_equal(ms, -77);
    assert_non_null(problem);
    if (strcmp(problem, cases[i].problem) != 0)
      fail_msg("\"%s\": the duration %s; expected: %s", cases[i].text, problem, cases[i].problem);
  }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct good both_read[] = {
    {"0", 0},
    {"-0", 0},
    {"+0", 0},
    {"0s", 0},
    {"-0s", 0},
    {"1h30m", 90 * MINUTE},
    {"250ms", 250},
    {"1m0s", MINUTE},
    {"1.5h", 90 * MINUTE},
    {"+5s", 5000},
    {"5.s", 5000},
    {".5s", 500},
    {"1.0s", 1000},
    {"1.004s", 1004},
    {"1.0040s", 1004},
    {"100.00100s", 100001},
    {"10.5s4m", 250500},
    {"1h1m1s1ms1us1ns", HOUR + MINUTE + 1001},
    {"39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14425},
    {"0.3333333333333333333h", 20 * MINUTE},
    {"0.100000000000000000000h", 6 * MINUTE},
    /* less than a millisecond rounds to the nearest, halves up */
    {"10us", 0},
    {"499us", 0},
    {"499999ns", 0},
    {"500us", 1},
    {"500\xc2\xb5s", 1},
    {"500\xce\xbcs", 1},
    {"0.5ms", 1},
    {"1500us", 2},
    {"250us250us", 1},
    {"1ns", 0},
    /* the limit of Go */
    {"2562047h47m16.854s", DURATION_MAX_MS},
    {"2562047h47m16.854775807s", DURATION_MAX_MS},
    {"9223372036854775807ns", DURATION_MAX_MS},
    {"9223372036854775.807us", DURATION_MAX_MS},
};

static const struct bad both_refuse[] = {
    {"", "is empty"},
    {"+", "has a sign without a number"},
    {"-", "has a sign without a number"},
    {"s", "has a unit without a number"},
    {".", "has a unit without a number"},
    {".s", "has a unit without a number"},
    {"+.s", "has a unit without a number"},
    {" 1s", "has a unit without a number"},
    {"--1s", "has a unit without a number"},
    {"abc", "has a unit without a number"},
    {"1h30", "has a number without a unit"},
    {"1s ", "has an unknown unit"},
    {"1h 30m", "has an unknown unit"},
    {"1d", "has an unknown unit"},
    {"1S", "has an unknown unit"},
    {"1e3s", "has an unknown unit"},
    {"1s-1s", "has an unknown unit"},
    {"1,5s", "has an unknown unit"},
    {"1.2.3s", "has an unknown unit"},
    {"1\xb5s", "has an unknown unit"},
    {"-1s", "is negative"},
    {"-1ns", "is negative"},
    {"-1h30m", "is negative"},
    {"2562047h47m16.854775808s", "is too long"},
    {"9223372036854775808ns", "is too long"},
    {"-9223372036854775808ns", "is too long"},
    {"2562048h", "is too long"},
    {"99999999999999999999999h", "is too long"},
    {"2562047h2562047h", "is too long"},
};

static void the_text_form_of_go_is_read(void **state) {
  (void)state;
  expect_good(duration_parse, both_read, COUNT(both_read));
  expect_good(duration_parse_option, both_read, COUNT(both_read));
}

static void what_go_refuses_is_refused(void **state) {
  (void)state;
  expect_bad(duration_parse, both_refuse, COUNT(both_refuse));
  expect_bad(duration_parse_option, both_refuse, COUNT(both_refuse));
}

static void a_bare_number_is_seconds_in_an_option_only(void **state) {
  (void)state;
  static const struct good options[] = {
      {"10", 10000}, {"0.5", 500}, {".25", 250}, {"+3", 3000}, {"1.", 1000}, {"0.0004", 0}, {"0.0005", 1}, {"0.0", 0},
  };
  static const struct bad options_refused[] = {
      {"-5", "is negative"},
      {"-0.001", "is negative"},
      {"1m10", "has a number without a unit"},
      {"9223372037", "is too long"},
      {"99999999999999999999", "is too long"},
      {"1e3", "has an unknown unit"},
  };
  static const struct bad refused[] = {
      {"10", "has a number without a unit"},
      {"0.5", "has a number without a unit"},
      {"00", "has a number without a unit"},
      {"-5", "has a number without a unit"},
  };
  expect_good(duration_parse_option, options, COUNT(options));
  expect_bad(duration_parse_option, options_refused, COUNT(options_refused));
  expect_bad(duration_parse, refused, COUNT(refused));
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
  static const struct good cases[] = {
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
      cmocka_unit_test(bytes_beyond_the_length_are_not_read),
      cmocka_unit_test(durations_are_written_as_go_writes_them),
      cmocka_unit_test(what_is_written_is_read_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
