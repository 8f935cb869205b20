#ifndef PGQ_STREAM_H
#define PGQ_STREAM_H

/* Enqueues many jobs step by step: a stream of jobs is cut into batches, and each batch is one INSERT. The caller runs
 * the steps and waits for the server: pgq_enqueue_stream() blocks, the Lua module can let other tasks run. The order
 * is:
 *
 *   stream_init()
 *   stream_add() until it returns 0, or no job is left
 *   BEGIN, if stream_owns_transaction()
 *   stream_send_moment(); if it has sent something: wait, stream_take_moment()
 *   stream_send(); stream_add() for the next batch; wait, stream_take(); again while there are jobs
 *   COMMIT, if stream_owns_transaction()
 *   stream_free()
 *
 * After a failure: wait for the end of the statement that was sent, and run stream_undo(). Not part of the public
 * interface. */

#include "request.h"

/* Larger batches are not faster; smaller ones are slower over a network. */
enum { STREAM_BATCH_JOBS = 8192, STREAM_BATCH_BYTES = 1 << 20 };

/* The state of one call. Callers only read the fields. */
struct stream {
  PGconn *conn;
  struct request request;

  unsigned char *batch; /* the array that is being filled */
  size_t length, capacity, count;
  int64_t added;    /* number of jobs in this batch and all batches before */
  size_t in_flight; /* number of jobs in the batch that was sent and not answered yet; 0: there is none */
  int64_t sent;     /* number of jobs in all batches that were sent */

  int64_t *ids; /* the id_count ids of the last batch that stream_take() has read */
  size_t id_count;

  PGTransactionStatusType began_as, at_rest; /* transaction status when the call began, and between statements now */
};

/* Checks connection, queue and options (NULL: the defaults), whose texts must stay valid until stream_free(). Returns
 * 0, or -1 and an error. In both cases stream_free() must follow. */
int stream_init(struct stream *stream, PGconn *conn, const char *queue, const struct pgq_options *options,
                struct pgq_error *error) __attribute__((warn_unused_result));

/* Frees the content of the stream, not the stream itself. May be called twice. */
void stream_free(struct stream *stream);

/* Copies the next job into the batch. Returns 1; or 0 if the batch has no space for it and must be sent first; or -1
 * and an error that names the job. */
int stream_add(struct stream *stream, const void *data, size_t length, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Whether the call begins and commits a transaction of its own; else the jobs belong to the caller's transaction. */
bool stream_owns_transaction(const struct stream *stream);

/* Asks the database for the time at which the delay ends. Returns 1; or 0 if there is no delay and nothing was sent; or
 * -1 and an error. */
int stream_send_moment(struct stream *stream, struct pgq_error *error) __attribute__((warn_unused_result));

/* Reads the answer to stream_send_moment(). Returns 0, or -1 and an error. */
int stream_take_moment(struct stream *stream, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Sends the batch, which must not be empty, and empties it. Libpq copies the bytes that it cannot send at once. Returns
 * 0, or -1 and an error. */
int stream_send(struct stream *stream, struct pgq_error *error) __attribute__((warn_unused_result));

/* Reads the answer to stream_send(), the ids in the order of the jobs. Returns 0, or -1 and an error. */
int stream_take(struct stream *stream, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* The statement that undoes the call, to be run when no answer is outstanding: it rolls back the transaction of the
 * call, or makes that of the caller fail. NULL if there is nothing to undo. */
const char *stream_undo(const struct stream *stream);

/* To be called after a failed COMMIT: sets 08007 in `error` if the connection broke. */
void stream_explain_commit(const struct stream *stream, struct pgq_error *error);

#endif
