#ifndef PGQ_ENDPOINTS_H
#define PGQ_ENDPOINTS_H

#include <uv.h>

#include "server.h"
#include "worker_view.h"

/* What a worker serves with --listen: /metrics, /healthz and /readyz. */
struct endpoints;

/* endpoints_new(loop, view, problem): listens at the address of the option, and logs which it is. The view must outlive
 * the object. Returns NULL and a problem if that is impossible. */
struct endpoints *endpoints_new(uv_loop_t *loop, const struct worker_view *view, struct http_problem *problem);

/* endpoints_free(endpoints): frees the object in later turns of the loop. NULL is allowed. */
void endpoints_free(struct endpoints *endpoints);

#endif
