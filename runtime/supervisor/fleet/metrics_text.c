#include "metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "text.h"

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM] = "histogram",
    [METRIC_INFO] = "info",
};

/* What the names of samples have at their end. */
static const char *const suffixes[] = {
    [METRIC_COUNTER] = "_total",
    [METRIC_GAUGE] = "",
    [METRIC_HISTOGRAM] = "",
    [METRIC_INFO] = "_info",
};

static void add(struct buffer *out, const char *text) {
  buffer_add(out, text, strlen(text));
}

static void add_line(struct buffer *out, const char *keyword, const char *name, const char *suffix, const char *text) {
  const char *const parts[] = {"# ", keyword, " ", name, suffix, " ", text, "\n"};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    add(out, parts[i]);
}

void metrics_head(struct buffer *out, enum metrics_form form, const char *name, enum metric_type type, const char *unit,
                  const char *help) {
  bool is_open = form == METRICS_OPENMETRICS;
  const char *suffix = is_open ? "" : suffixes[type];
  add_line(out, "TYPE", name, suffix, type == METRIC_INFO && !is_open ? "gauge" : type_names[type]);
  if (is_open && unit)
    add_line(out, "UNIT", name, "", unit);
  add_line(out, "HELP", name, suffix, help);
}

/* Escapes what would end the value or its line; bytes that are not UTF-8 are replaced. */
static void add_value(struct buffer *out, const char *value) {
  size_t length = strlen(value), size = 3 * length + 1; /* a replacement takes three bytes */
  char *clean = memory_new(size);
  text_clean(clean, size, value, length);
  for (const char *at = clean; *at; at++)
    if (*at == '\n')
      buffer_add(out, "\\n", 2);
    else if (*at == '"' || *at == '\\')
      buffer_add(out, (char[]){'\\', *at}, 2);
    else
      buffer_add(out, at, 1);
  free(clean);
}

static void add_labels(struct buffer *out, const struct metric_label *labels, int count) {
  const char *before = "{";
  for (int i = 0; i < count; i++) {
    if (!labels[i].name)
      continue;
    add(out, before);
    add(out, labels[i].name);
    add(out, "=\"");
    add_value(out, labels[i].value);
    add(out, "\"");
    before = ",";
  }
  if (*before == ',')
    add(out, "}");
}

static void add_number(struct buffer *out, double value) {
  char text[40];
  bool is_whole = fabs(value) < 9e15 && value == (double)(int64_t)value;
  snprintf(text, sizeof text, is_whole ? "%.0f" : "%.15g", value);
  add(out, " ");
  add(out, text);
  add(out, "\n");
}

static void add_sample(struct buffer *out, const char *name, const char *suffix, const struct metric_label *labels,
                       int count, double value) {
  add(out, name);
  add(out, suffix);
  add_labels(out, labels, count);
  add_number(out, value);
}

void metrics_sample(struct buffer *out, const char *name, enum metric_type type, const struct metric_label *labels,
                    int count, double value) {
  add_sample(out, name, suffixes[type], labels, count, value);
}

void metrics_histogram(struct buffer *out, const char *name, struct metric_label label,
                       const int64_t buckets[static TALLY_BUCKETS], double sum_s) {
  int64_t count = 0;
  for (int i = 0; i < TALLY_BUCKETS; i++) {
    char limit[24];
    count += buckets[i];
    if (i >= METRICS_BUCKETS)
      continue;
    snprintf(limit, sizeof limit, "%.3f", (double)(1 << i) / 1000);
    add_sample(out, name, "_bucket", (const struct metric_label[]){label, {"le", limit}}, 2, (double)count);
  }
  add_sample(out, name, "_bucket", (const struct metric_label[]){label, {"le", "+Inf"}}, 2, (double)count);
  add_sample(out, name, "_count", &label, 1, (double)count);
  add_sample(out, name, "_sum", &label, 1, sum_s);
}

void metrics_end(struct buffer *out, enum metrics_form form) {
  if (form == METRICS_OPENMETRICS)
    add(out, "# EOF\n");
}
