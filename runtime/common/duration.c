#include "duration.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Sums are in nanoseconds, as in Go, so that 0.5ms and 500us are the same. */
#define NANOSECOND UINT64_C(1)
#define MICROSECOND UINT64_C(1000)
#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define LIMIT_NS ((uint64_t)INT64_MAX)

static const struct {
  const char *name;
  uint64_t ns;
} units[] = {
    {"ns", NANOSECOND},         {"us", MICROSECOND}, {"\xc2\xb5s", MICROSECOND}, /* U+00B5, micro sign */
    {"\xce\xbcs", MICROSECOND},                                                  /* U+03BC, Greek mu */
    {"ms", MILLISECOND},        {"s", SECOND},       {"m", 60 * SECOND},         {"h", HOUR}, {"d", DAY},
};

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* A number in the text: whole + fraction / scale. */
struct number {
  uint64_t whole;
  uint64_t fraction;
  double scale;
};

/* Reads the number at *at, and sets *at to its end. */
static int read_number(const char **at, const char *end, struct number *number, const char **problem) {
  const char *p = *at;
  bool any = false;
  *number = (struct number){.scale = 1};
  for (; p < end && is_digit(*p); p++, any = true) {
    if (number->whole > (LIMIT_NS - (uint64_t)(*p - '0')) / 10) {
      *problem = "is too long";
      return -1;
    }
    number->whole = number->whole * 10 + (uint64_t)(*p - '0');
  }
  if (p < end && *p == '.') {
    for (p++; p < end && is_digit(*p); p++, any = true) {
      if (number->fraction > (LIMIT_NS - 9) / 10)
        continue; /* further digits are fractions of a nanosecond */
      number->fraction = number->fraction * 10 + (uint64_t)(*p - '0');
      number->scale *= 10;
    }
  }
  *at = p;
  *problem = "has a unit without a number";
  return any ? 0 : -1;
}

/* Reads the unit at *at, which ends at the next number, and sets *at to its end. Returns its nanoseconds; 0: unknown,
 * or longer than `longest`. */
static uint64_t read_unit(const char **at, const char *end, uint64_t longest) {
  const char *begin = *at;
  const char *p = begin;
  while (p < end && *p != '.' && !is_digit(*p))
    p++;
  *at = p;
  size_t length = (size_t)(p - begin);
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (strlen(units[i].name) == length && memcmp(units[i].name, begin, length) == 0)
      return units[i].ns <= longest ? units[i].ns : 0;
  return 0;
}

/* Adds `number` times `unit` to *sum_ns. */
static int add(uint64_t *sum_ns, const struct number *number, uint64_t unit, const char **problem) {
  *problem = "is too long";
  if (number->whole > LIMIT_NS / unit)
    return -1;
  uint64_t ns = number->whole * unit + (uint64_t)((double)number->fraction * ((double)unit / number->scale));
  if (ns > LIMIT_NS - *sum_ns)
    return -1;
  *sum_ns += ns;
  return 0;
}

/* The units of a text: that of a number without one (0: a number needs a unit), and the longest that may be used. */
struct grammar {
  uint64_t bare, longest;
};

/* Reads the whole text as nanoseconds. */
static int parse_ns(const char *at, const char *end, struct grammar grammar, uint64_t *sum_ns, const char **problem) {
  const char *begin = at;
  *sum_ns = 0;
  while (at < end) {
    struct number number;
    bool first = at == begin;
    if (read_number(&at, end, &number, problem) != 0)
      return -1;
    uint64_t unit = grammar.bare;
    if (at == end) {
      bool zero = end - begin == 1 && *begin == '0'; /* the only number that Go reads without a unit */
      if (zero)
        return 0;
      if (!first || unit == 0) {
        *problem = "has a number without a unit";
        return -1;
      }
    } else if ((unit = read_unit(&at, end, grammar.longest)) == 0) {
      *problem = "has an unknown unit";
      return -1;
    }
    if (add(sum_ns, &number, unit, problem) != 0)
      return -1;
  }
  return 0;
}

static int parse(const char *text, size_t length, struct grammar grammar, int64_t *result_ms, const char **problem) {
  const char *end = text + length;
  bool negative = length > 0 && *text == '-';
  uint64_t sum_ns;
  if (length > 0 && (*text == '-' || *text == '+'))
    text++;
  if (text == end) {
    *problem = length == 0 ? "is empty" : "has a sign without a number";
    return -1;
  }
  if (parse_ns(text, end, grammar, &sum_ns, problem) != 0)
    return -1;
  if (negative && sum_ns > 0) {
    *problem = "is negative";
    return -1;
  }
  int64_t ms = (int64_t)((sum_ns + MILLISECOND / 2) / MILLISECOND);
  *result_ms = ms > DURATION_MAX_MS ? DURATION_MAX_MS : ms;
  return 0;
}

int duration_parse(const char *text, size_t length, int64_t *result_ms, const char **problem) {
  return parse(text, length, (struct grammar){0, HOUR}, result_ms, problem);
}

int duration_parse_option(const char *text, size_t length, int64_t *result_ms, const char **problem) {
  return parse(text, length, (struct grammar){SECOND, HOUR}, result_ms, problem);
}

int duration_parse_days(const char *text, size_t length, int64_t *result_ms, const char **problem) {
  return parse(text, length, (struct grammar){SECOND, DAY}, result_ms, problem);
}

void duration_format(int64_t ms, char buffer[DURATION_TEXT_SIZE]) {
  const char *sign = ms < 0 ? "-" : "";
  uint64_t rest = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
  if (rest > 0 && rest < 1000) {
    snprintf(buffer, DURATION_TEXT_SIZE, "%s%" PRIu64 "ms", sign, rest);
    return;
  }
  char fraction[5] = "";
  uint64_t hours = rest / 3600000, minutes = rest / 60000 % 60, seconds = rest / 1000 % 60;
  if (rest % 1000 != 0) {
    snprintf(fraction, sizeof fraction, ".%03u", (unsigned)(rest % 1000));
    for (char *last = fraction + 3; *last == '0'; last--)
      *last = '\0';
  }
  if (hours > 0)
    snprintf(buffer, DURATION_TEXT_SIZE, "%s%" PRIu64 "h%" PRIu64 "m%" PRIu64 "%ss", sign, hours, minutes, seconds,
             fraction);
  else if (minutes > 0)
    snprintf(buffer, DURATION_TEXT_SIZE, "%s%" PRIu64 "m%" PRIu64 "%ss", sign, minutes, seconds, fraction);
  else
    snprintf(buffer, DURATION_TEXT_SIZE, "%s%" PRIu64 "%ss", sign, seconds, fraction);
}
