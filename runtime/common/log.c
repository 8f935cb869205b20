#include "log.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buffer.h"
#include "output.h"
#include "printable.h"
#include "text.h"

enum { VALUE_MOST = 16 * 1024 };

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static enum log_level least_level = LOG_INFO;
static enum log_format line_format = LOG_TEXT;

void log_setup(enum log_level level, enum log_format format) {
  least_level = level;
  line_format = format;
}

int log_wants(enum log_level level) {
  return level >= least_level;
}

struct log_field log_text_field(const char *key, const char *text) {
  return (struct log_field){.key = text ? key : NULL, .text = text, .length = text ? strlen(text) : 0};
}

static void time_text(char text[static 32]) {
  struct timespec now;
  struct tm parts;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  size_t length = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(text + length, 32 - length, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* Returns a field's value as valid UTF-8: in `scratch`, or in *owned, which the caller frees. */
static const char *value_text(const struct log_field *field, char scratch[static 32], char **owned) {
  *owned = NULL;
  switch (field->kind) {
  case LOG_FIELD_INTEGER:
    snprintf(scratch, 32, "%lld", (long long)field->integer);
    return scratch;
  case LOG_FIELD_SECONDS:
    snprintf(scratch, 32, "%.6f", (double)field->integer / 1e6);
    return scratch;
  case LOG_FIELD_TEXT:
    break;
  }
  size_t size = field->length * 3 + 1; /* a replaced byte takes three */
  if (size > VALUE_MOST)
    size = VALUE_MOST;
  *owned = malloc(size);
  if (!*owned)
    return "";
  text_clean(*owned, size, field->text, field->length);
  return *owned;
}

/* key=value; the value is quoted and escaped if it is empty, has spaces, quotes, "=" or backslashes, or characters that
 * are not printed. */
static void add_pair(struct buffer *line, const char *key, const char *value) {
  bool plain = *value != '\0' && !strpbrk(value, " \"=\\") && printable_is(value);
  if (line->length)
    buffer_add(line, " ", 1);
  buffer_add(line, key, strlen(key));
  buffer_add(line, plain ? "=" : "=\"", plain ? 1 : 2);
  printable_add(line, value, PRINTABLE_TEXT);
  if (!plain)
    buffer_add(line, "\"", 1);
}

static void text_line(struct buffer *line, const char *time, const char *level, const char *message,
                      const struct log_field *fields, size_t count) {
  add_pair(line, "time", time);
  add_pair(line, "level", level);
  add_pair(line, "msg", message);
  for (size_t i = 0; i < count; i++) {
    char scratch[32], *owned;
    if (!fields[i].key)
      continue;
    add_pair(line, fields[i].key, value_text(&fields[i], scratch, &owned));
    free(owned);
  }
}

static void json_line(struct buffer *line, const char *time, const char *level, const char *message,
                      const struct log_field *fields, size_t count) {
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "time", time);
  cJSON_AddStringToObject(object, "level", level);
  cJSON_AddStringToObject(object, "msg", message);
  for (size_t i = 0; i < count; i++) {
    char scratch[32], *owned;
    if (!fields[i].key)
      continue;
    const char *value = value_text(&fields[i], scratch, &owned);
    if (fields[i].kind == LOG_FIELD_TEXT)
      cJSON_AddStringToObject(object, fields[i].key, value);
    else
      cJSON_AddRawToObject(object, fields[i].key, value); /* an int64 as it is: a double would lose digits */
    free(owned);
  }
  char *text = cJSON_PrintUnformatted(object);
  if (text)
    printable_add(line, text, PRINTABLE_JSON);
  cJSON_free(text);
  cJSON_Delete(object);
}

static void add_line(struct buffer *line, enum log_level level, const char *message, const struct log_field *fields,
                     size_t count) {
  char time[32];
  time_text(time);
  (line_format == LOG_JSON ? json_line : text_line)(line, time, level_names[level], message, fields, count);
  buffer_add(line, "\n", 1);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  if (!log_wants(level))
    return;
  struct buffer line = {0};
  add_line(&line, level, message, fields, count);
  output_write(OUTPUT_STDERR, line.bytes, line.length);
  buffer_free(&line);
}

void log_plain(const char *format, ...) {
  char *text = NULL, *clean;
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(&text, format, arguments);
  va_end(arguments);
  if (length < 0)
    return;
  size_t size = (size_t)length * 3 + 1;
  struct buffer line = {0};
  clean = malloc(size);
  if (clean) {
    text_clean(clean, size, text, (size_t)length);
    printable_add(&line, clean, PRINTABLE_LINES);
    buffer_add(&line, "\n", 1);
    output_write(OUTPUT_STDERR, line.bytes, line.length);
  }
  buffer_free(&line);
  free(clean);
  free(text);
}
