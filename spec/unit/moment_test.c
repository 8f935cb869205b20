/* Tests of moment.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "moment.h"

static const char now[] = "2026-11-30 17:20:10.25+00";

static void iso_is_in_utc(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"2026-11-30 17:20:10+00", "2026-11-30T17:20:10.000000Z"},
      {"2026-11-30 17:20:10.5+01", "2026-11-30T16:20:10.500000Z"},
      {"2026-11-30 17:20:10.000001-05:30", "2026-11-30T22:50:10.000001Z"},
      {"1969-12-31 23:59:59.75+00", "1969-12-31T23:59:59.750000Z"},
      {"0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000000Z"},
      {"infinity", "infinity"},
      {"-infinity", "-infinity"},
      {"12026-11-30 17:20:10+00", "12026-11-30 17:20:10+00"},
      {"0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char out[MOMENT_SIZE];
    moment_iso(out, cases[i][0]);
    assert_string_equal(out, cases[i][1]);
  }
}

static void times_are_relative_to_now(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"2026-11-30 17:20:10.25+00", "now"},
      {"2026-11-30 17:20:09.3+00", "now"},
      {"2026-11-30 17:20:11.2+00", "now"},
      {"2026-11-30 17:20:09.25+00", "1s ago"},
      {"2026-11-30 17:20:12.25+00", "in 2s"},
      {"2026-11-30 18:20:10.25+01", "now"},
      {"2026-11-30 17:17:05.25+00", "3m5s ago"},
      {"2026-11-30 19:20:10.25+00", "in 2h"},
      {"2026-11-26 14:20:10.25+00", "4d3h ago"},
      {"infinity", "never"},
      {"-infinity", "long ago"},
      {"0044-03-15 12:00:00+00 BC", "long ago"},
      {"12026-11-30 17:20:10+00", "never"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char out[MOMENT_SIZE];
    moment_relative(out, cases[i][0], now);
    assert_string_equal(out, cases[i][1]);
  }
  assert_int_equal(moment_between_ms(now, "2026-11-30 17:20:10.5+00"), 250);
  assert_int_equal(moment_between_ms("infinity", now), INT64_MIN);
  assert_int_equal(moment_between_ms("-infinity", now), INT64_MAX);
}

static void spans_have_at_most_two_units(void **state) {
  (void)state;
  static const struct {
    int64_t ms;
    const char *text;
  } cases[] = {
      {-5, "0ms"},          {0, "0ms"},       {999, "999ms"},      {1000, "1s"},
      {1099, "1s"},         {1500, "1.5s"},   {9999, "9.9s"},      {10999, "10s"},
      {60000, "1m"},        {61000, "1m1s"},  {3599999, "59m59s"}, {3600000, "1h"},
      {86399000, "23h59m"}, {86400000, "1d"}, {90000000, "1d1h"},  {INT64_C(315360000000), "3650d"},
      {INT64_MAX, "ever"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char out[MOMENT_SIZE];
    moment_span(out, cases[i].ms);
    assert_string_equal(out, cases[i].text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(iso_is_in_utc),
      cmocka_unit_test(times_are_relative_to_now),
      cmocka_unit_test(spans_have_at_most_two_units),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
