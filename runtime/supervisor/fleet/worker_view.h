#ifndef PGQ_WORKER_VIEW_H
#define PGQ_WORKER_VIEW_H

#include "control.h"
#include "counts.h"
#include "status.h"

/* What the metrics and the readiness of a worker are read from. All of it outlives the view. */
struct worker_view {
  const struct options *options;
  const struct slot_list *slots;
  const struct queue_list *queues;
  const struct session_mode *mode;
  const struct counts *counts;
  const struct status *status;
  struct control *const *control; /* points to NULL until the worker connects */
  double started_s;               /* when the worker was started, in Unix seconds */
};

#endif
