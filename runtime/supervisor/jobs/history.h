#ifndef PGQ_HISTORY_H
#define PGQ_HISTORY_H

#include <stdint.h>

/* What the rows of pgq_attempts say about this worker. All holds of a worker share it; the control session fills it in.
 * A zeroed history knows nothing yet. */
struct history {
  int64_t worker_id; /* id of its row in pgq_workers; 0: it has none */
  char worker[300];  /* host:pid */
};

#endif
