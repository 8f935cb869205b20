#ifndef PGQ_METRICS_FAMILIES_H
#define PGQ_METRICS_FAMILIES_H

#include "metrics_text.h"
#include "worker_view.h"

/* The numbers of a queue, or of several. */
struct numbers {
  struct tally tally;
  bool has_sample, is_paused, backs_off;
  int64_t due;
  double oldest_s;
  int in_flight;
};

/* A family of series. One of the functions is set. A value that is not a number is left out. */
struct family {
  const char *name; /* without the suffix of its type */
  enum metric_type type;
  const char *unit; /* NULL: none */
  const char *help;
  double (*value)(const struct worker_view *view);
  double (*of_queue)(const struct numbers *numbers);
  void (*lines_of_queue)(struct buffer *out, const struct family *family, const char *queue,
                         const struct numbers *numbers);
  void (*lines)(struct buffer *out, const struct family *family, const struct worker_view *view);
};

/* In the order of the text. */
extern const struct family metric_families[];
extern const size_t metric_family_count;

#endif
