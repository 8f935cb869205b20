#ifndef PGQ_ENQUEUE_LINES_H
#define PGQ_ENQUEUE_LINES_H

#include "pgq.h"

/*
 * enqueue_lines(conn, queue, options): enqueues each line of standard input as a job, all in one transaction, and
 * prints their ids after it has committed. Returns the exit status: 0; or 1 and a message on stderr.
 */
int enqueue_lines(PGconn *conn, const char *queue, const struct pgq_options *options);

#endif
