#ifndef PGQ_ENQUEUE_LINES_H
#define PGQ_ENQUEUE_LINES_H

#include "pgq.h"

/*
 * enqueue_lines(conn, queue, options): enqueues each line of standard input as a job, all in one transaction, and
 * prints their ids after it has committed. Returns the exit status: 0; or 1 or 2 and a message on stderr.
 */
int enqueue_lines(PGconn *conn, const char *queue, const struct pgq_options *options);

/*
 * enqueue_failed(conn, error, how, consequence): prints why nothing was enqueued; names --after if the database cannot
 * read its time, and the privileges that are missing. `consequence` follows a message of the database. Returns the exit
 * status: 1, or 2 for wrong usage.
 */
int enqueue_failed(PGconn *conn, const struct pgq_error *error, const struct pgq_options *how, const char *consequence);

#endif
