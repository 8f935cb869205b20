#ifndef PGQ_LOG_H
#define PGQ_LOG_H

#include <stddef.h>
#include <stdint.h>

/*
 * The log, on stderr: one line per event, as key=value pairs or as a JSON object. A line has `time` (UTC, RFC 3339,
 * milliseconds), `level`, `msg` and named fields. A text may be any bytes: those that are not UTF-8 are replaced, and
 * characters that are not printed are escaped. No
 * caller passes a connection string, so no password gets into the log.
 */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
  const char *key; /* NULL: the field is left out */
  enum { LOG_FIELD_TEXT, LOG_FIELD_INTEGER, LOG_FIELD_SECONDS } kind;
  const char *text;
  size_t length;
  int64_t integer; /* of LOG_FIELD_SECONDS: microseconds, written as seconds */
};

/* Fields for log_line(): a NUL-terminated text (NULL: the field is left out), bytes, an integer, a duration in µs. */
#define LOG_T(name, value) log_text_field(name, value)
#define LOG_B(name, value, size)                                                                                       \
  (struct log_field) {                                                                                                 \
    .key = name, .kind = LOG_FIELD_TEXT, .text = value, .length = size                                                 \
  }
#define LOG_I(name, value)                                                                                             \
  (struct log_field) {                                                                                                 \
    .key = name, .kind = LOG_FIELD_INTEGER, .integer = value                                                           \
  }
#define LOG_US(name, value)                                                                                            \
  (struct log_field) {                                                                                                 \
    .key = name, .kind = LOG_FIELD_SECONDS, .integer = value                                                           \
  }

/* log_line(level, message, fields…): writes a line, unless `level` is below the level of log_setup(). */
#define log_line(level, message, ...)                                                                                  \
  log_write(level, message, (const struct log_field[]){{0}, ##__VA_ARGS__},                                            \
            sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field))
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

/* log_setup(level, format): sets both for the whole process. Before the first call they are info and text. */
void log_setup(enum log_level level, enum log_format format);

/* log_wants(level): whether a line of this level would be written; for callers whose fields are costly to compute. */
int log_wants(enum log_level level);

/* log_plain(format, …): writes a message for the person who starts the program, and a newline, to stderr. It may have
 * several lines; characters that are not printed are escaped. */
void log_plain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For the macros above only. */
void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count);
struct log_field log_text_field(const char *key, const char *text);

#endif
