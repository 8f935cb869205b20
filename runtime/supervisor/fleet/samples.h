#ifndef PGQ_SAMPLES_H
#define PGQ_SAMPLES_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "queue.h"

/*
 * What the metrics say about the database: every 15 s the control session counts the due jobs of the worker's queues,
 * and asks for the oldest transaction. The queues are asked a few at a time, with rests, since the session also extends
 * leases and hears the doorbell: a step takes a few milliseconds, and the server cancels it after 250.
 */
struct samples;

/* No more jobs of a queue are counted. */
enum { SAMPLE_DUE_MOST = 10000 };

/* A sample that is older is not shown any more. */
enum { SAMPLE_VALID_MS = 60000 };

/* What keeps vacuum from removing dead rows. */
struct xmin_sample {
  int64_t at_ms;  /* when it was asked for, by clock_ms(); 0: never, or the last try has failed */
  int64_t ids;    /* transactions since the oldest snapshot */
  double since_s; /* for how many seconds the oldest transaction has been open */
};

/* samples_new(loop, connection, queues): all of them must outlive the object. Nothing is asked before samples_up(). */
struct samples *samples_new(uv_loop_t *loop, struct connection *connection, const struct queue_list *queues);

/* samples_up(samples): the session is up, and the tables have been checked. samples_down(samples): the session was
 * lost, or has something else to do. The last samples stay. */
void samples_up(struct samples *samples);
void samples_down(struct samples *samples);

/* samples_result(samples, statement, result): takes the answer to one of its statements. Returns whether it is one. */
bool samples_result(struct samples *samples, enum statement statement, const PGresult *result);

/* samples_xmin(samples): the last sample. Those of the queues are in struct queue. */
struct xmin_sample samples_xmin(const struct samples *samples);

/* samples_free(samples): frees the object in a later turn of the loop. NULL is allowed. */
void samples_free(struct samples *samples);

#endif
