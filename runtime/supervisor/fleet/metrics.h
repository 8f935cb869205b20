#ifndef PGQ_METRICS_H
#define PGQ_METRICS_H

#include "metrics_text.h"
#include "worker_view.h"

/*
 * The metrics of a worker, for Prometheus. They are read from what the worker knows: nothing is sent to the database.
 * The page pgq-lua-operating(7) lists them. The text is made piece by piece, since a worker may have a thousand queues.
 */
struct metrics;

/* The series of the first METRICS_QUEUES_MOST queues have their names; those of all others are added up under the name
 * `other`. */
enum { METRICS_QUEUES_MOST = 1000 };

/* metrics_new(view, form): begins a text. The view must outlive it. */
struct metrics *metrics_new(const struct worker_view *view, enum metrics_form form);

/* metrics_more(metrics, out): adds the next piece, of some kilobytes. Returns false if it is the last one. */
bool metrics_more(struct metrics *metrics, struct buffer *out);

/* metrics_free(metrics): NULL is allowed. */
void metrics_free(struct metrics *metrics);

#endif
