#ifndef PGQ_READINESS_H
#define PGQ_READINESS_H

#include "buffer.h"
#include "worker_view.h"

/* readiness_check(view, reasons): whether the worker is connected, its script loads, and it may claim. Otherwise adds a
 * line to `reasons` for each reason why not: a word, a colon, a text. `reasons` may be NULL. */
bool readiness_check(const struct worker_view *view, struct buffer *reasons);

#endif
