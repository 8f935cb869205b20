#include "log.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
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

/* key=value; the value is quoted and escaped if it is empty or has spaces, quotes, "=", backslashes or controls. */
static void add_pair(struct buffer *line, const char *key, const char *value) {
  bool plain = *value != '\0';
  for (const char *c = value; *c; c++)
    plain = plain && (unsigned char)*c > ' ' && *c != '"' && *c != '=' && *c != '\\' && *c != 0x7f;
  if (line->length)
    buffer_add(line, " ", 1);
  buffer_add(line, key, strlen(key));
  buffer_add(line, plain ? "=" : "=\"", plain ? 1 : 2);
  for (const char *c = value; *c; c++) {
    char escaped[8];
    int length = snprintf(escaped, sizeof escaped, "%c", *c);
    if (*c == '\n' || *c == '\t' || *c == '\r')
      length = snprintf(escaped, sizeof escaped, "\\%c", *c == '\n' ? 'n' : *c == '\t' ? 't' : 'r');
    else if (*c == '"' || *c == '\\')
      length = snprintf(escaped, sizeof escaped, "\\%c", *c);
    else if ((unsigned char)*c < ' ' || *c == 0x7f)
      length = snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned char)*c);
    buffer_add(line, escaped, (size_t)length);
  }
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
    buffer_add(line, text, strlen(text));
  cJSON_free(text);
  cJSON_Delete(object);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  if (!log_wants(level))
    return;
  struct buffer line = {0};
  char time[32];
  time_text(time);
  (line_format == LOG_JSON ? json_line : text_line)(&line, time, level_names[level], message, fields, count);
  buffer_add(&line, "\n", 1);
  for (size_t written = 0;
       written < line.length;) { /* one write per line, so that lines of several processes do not mix */
    ssize_t n = write(STDERR_FILENO, line.bytes + written, line.length - written);
    if (n <= 0)
      break;
    written += (size_t)n;
  }
  buffer_free(&line);
}
