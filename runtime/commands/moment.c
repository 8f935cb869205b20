#include "moment.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DATE_CHARACTERS = 10, TIME_CHARACTERS = 19 }; /* of "2026-11-30 17:20:10" */

/*
 * Reads a moment into microseconds since 1970. Returns -1 for infinity, and for years that have not four digits or are
 * before our era: for these Postgres writes " BC".
 */
static int parse(const char *text, int64_t *us) {
  struct tm fields = {0};
  int hours = 0, minutes = 0, read = 0;
  char sign = '+', fraction[8] = "000000";
  if (strlen(text) <= TIME_CHARACTERS || text[4] != '-' || text[DATE_CHARACTERS] != ' ' ||
      text[strlen(text) - 1] == 'C')
    return -1;
  if (sscanf(text, "%d-%d-%d %d:%d:%d%n", &fields.tm_year, &fields.tm_mon, &fields.tm_mday, &fields.tm_hour,
             &fields.tm_min, &fields.tm_sec, &read) != 6)
    return -1;
  text += read;
  if (*text == '.')
    for (size_t i = 0; i < 6 && text[1 + i] >= '0' && text[1 + i] <= '9'; i++)
      fraction[i] = text[1 + i];
  text += strcspn(text, "+-");
  sscanf(text, "%c%d:%d", &sign, &hours, &minutes);
  fields.tm_year -= 1900;
  fields.tm_mon--;
  int micros = 0;
  sscanf(fraction, "%d", &micros);
  int64_t offset = (int64_t)hours * 3600 + minutes * 60;
  *us = ((int64_t)timegm(&fields) - (sign == '-' ? -offset : offset)) * 1000000 + micros;
  return 0;
}

static bool is_past(const char *text) {
  return *text == '-' || (*text && text[strlen(text) - 1] == 'C');
}

void moment_iso(char out[MOMENT_SIZE], const char *text) {
  int64_t us;
  struct tm fields;
  if (parse(text, &us) != 0) {
    snprintf(out, MOMENT_SIZE, "%s", text);
    return;
  }
  int64_t seconds = us / 1000000 - (us % 1000000 < 0);
  time_t time = (time_t)seconds;
  gmtime_r(&time, &fields);
  size_t length = (size_t)snprintf(out, MOMENT_SIZE, "%04d", fields.tm_year + 1900);
  length += strftime(out + length, MOMENT_SIZE - length, "-%m-%dT%H:%M:%S", &fields);
  snprintf(out + length, MOMENT_SIZE - length, ".%06dZ", (int)(us - seconds * 1000000));
}

int64_t moment_between_ms(const char *from, const char *to) {
  int64_t from_us, to_us;
  if (parse(to, &to_us) != 0)
    return is_past(to) ? INT64_MIN : INT64_MAX;
  if (parse(from, &from_us) != 0)
    return is_past(from) ? INT64_MAX : INT64_MIN;
  return (to_us - from_us) / 1000;
}

void moment_relative(char out[MOMENT_SIZE], const char *text, const char *now) {
  char span[MOMENT_SIZE];
  int64_t ms = moment_between_ms(now, text);
  bool is_future = ms > 0;
  if (ms == INT64_MAX || ms == INT64_MIN) {
    snprintf(out, MOMENT_SIZE, "%s", is_future ? "never" : "long ago");
    return;
  }
  moment_span(span, (is_future ? ms : -ms) / 1000 * 1000);
  if (ms / 1000 == 0)
    snprintf(out, MOMENT_SIZE, "now");
  else
    snprintf(out, MOMENT_SIZE, is_future ? "in %.40s" : "%.40s ago", span);
}

void moment_span(char out[MOMENT_SIZE], int64_t ms) {
  static const struct {
    int64_t ms;
    char name;
  } units[] = {{86400000, 'd'}, {3600000, 'h'}, {60000, 'm'}, {1000, 's'}};
  if (ms == INT64_MAX) {
    snprintf(out, MOMENT_SIZE, "ever");
  } else if (ms < 1000) {
    snprintf(out, MOMENT_SIZE, "%dms", ms > 0 ? (int)ms : 0);
  } else if (ms < 10000 && ms % 1000 >= 100) {
    snprintf(out, MOMENT_SIZE, "%d.%ds", (int)(ms / 1000), (int)(ms % 1000 / 100));
  } else {
    size_t i = 0;
    while (ms < units[i].ms)
      i++;
    int64_t rest = i < 3 ? ms % units[i].ms / units[i + 1].ms : 0;
    int length = snprintf(out, MOMENT_SIZE, "%lld%c", (long long)(ms / units[i].ms), units[i].name);
    if (rest > 0)
      snprintf(out + length, MOMENT_SIZE - (size_t)length, "%lld%c", (long long)rest, units[i + 1].name);
  }
}
