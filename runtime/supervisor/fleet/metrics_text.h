#ifndef PGQ_METRICS_TEXT_H
#define PGQ_METRICS_TEXT_H

#include <stdbool.h>

#include "buffer.h"
#include "tally.h"

/*
 * The text form of metrics: OpenMetrics 1.0, or the older form of Prometheus. They differ in what the lines before the
 * samples of a counter name, and in the units and the end, which the older form does not have.
 */
enum metrics_form { METRICS_OPENMETRICS, METRICS_PROMETHEUS };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO };

/* metrics_head(out, form, name, type, unit, help): the lines before the samples. `name` is without the suffix _total or
 * _info, which samples of such types have; `unit` is NULL or the end of the name. */
void metrics_head(struct buffer *out, enum metrics_form form, const char *name, enum metric_type type, const char *unit,
                  const char *help);

/* A label; the value is any text, and is escaped. Its name is NULL: there is none. */
struct metric_label {
  const char *name, *value;
};

/* metrics_sample(out, name, type, labels, count, value): a line. */
void metrics_sample(struct buffer *out, const char *name, enum metric_type type, const struct metric_label *labels,
                    int count, double value);

/* metrics_histogram(out, name, label, buckets, sum_s): the lines of a histogram of times. Only the first
 * METRICS_BUCKETS buckets of a tally have lines of their own. */
enum { METRICS_BUCKETS = 23 };
void metrics_histogram(struct buffer *out, const char *name, struct metric_label label,
                       const int64_t buckets[static TALLY_BUCKETS], double sum_s);

/* metrics_end(out, form): the last line. */
void metrics_end(struct buffer *out, enum metrics_form form);

#endif
