#ifndef PGQ_STREAM_H
#define PGQ_STREAM_H

/* Enqueueing many jobs, step by step: a stream of jobs is cut into batches, each batch is one INSERT. The caller runs
 * the steps and does the waiting; pgq_enqueue_stream() does so blocking, the Lua module also without. In this order:
 *
 *   stream_init()
 *   stream_add() until it says that the batch is full, or there are no more jobs
 *   BEGIN, if stream_owns_transaction()
 *   stream_send_moment(); if it has sent something: wait, stream_take_moment()
 *   stream_send(); stream_add() for the next batch; wait, stream_take(); again while there are jobs
 *   COMMIT, if stream_owns_transaction()
 *   stream_free()
 *
 * After a failure: wait for the end of what has been sent, and run stream_undo(). No part of the public interface. */

#include "request.h"

/* Larger batches are no faster; smaller ones are slower where a network lies between. */
enum { STREAM_BATCH_JOBS = 8192, STREAM_BATCH_BYTES = 1 << 20 };

/* One call. The fields are for reading. */
struct stream {
  PGconn *conn;
  struct request request;

  unsigned char *batch; /* the array that is being filled */
  size_t length, capacity, count;
  int64_t added;    /* jobs in this batch and all before */
  size_t in_flight; /* jobs of the batch that the server has and has not answered; 0: none */
  int64_t sent;     /* jobs in all batches sent so far */

  int64_t *ids; /* of the last batch taken: id_count of them */
  size_t id_count;

  PGTransactionStatusType began_as, at_rest; /* when the call began, and now between two statements */
};

/* Checks connection, queue and options (NULL for the defaults), whose texts are read until stream_free(). Returns 0, or
 * -1 with an error; stream_free() is due in both cases. */
int stream_init(struct stream *stream, PGconn *conn, const char *queue, const struct pgq_options *options,
                struct pgq_error *error) __attribute__((warn_unused_result));

/* Frees what the stream holds, not the stream; twice does nothing. */
void stream_free(struct stream *stream);

/* Copies the next job into the batch. Returns 1; or 0 when the batch has no room for it, and is to be sent first; or -1
 * with an error that names the job. */
int stream_add(struct stream *stream, const void *data, size_t length, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Whether the call has a transaction of its own, to be begun and committed; else it is part of the caller's. */
bool stream_owns_transaction(const struct stream *stream);

/* Asks for the moment that a delay leads to. Returns 1; or 0 when there is no delay, and nothing was sent; or -1 with
 * an error. */
int stream_send_moment(struct stream *stream, struct pgq_error *error) __attribute__((warn_unused_result));

/* Takes the answer to stream_send_moment(). Returns 0, or -1 with an error. */
int stream_take_moment(struct stream *stream, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Sends the batch, which must not be empty, and empties it. Libpq keeps a copy of what the server does not take at
 * once. Returns 0, or -1 with an error. */
int stream_send(struct stream *stream, struct pgq_error *error) __attribute__((warn_unused_result));

/* Takes the answer to stream_send(): the ids, in the order of the jobs. Returns 0, or -1 with an error. */
int stream_take(struct stream *stream, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* The statement that undoes the call, once nothing sent is unanswered: it rolls the call's own transaction back, or
 * makes the caller's fail. NULL when there is nothing to undo. */
const char *stream_undo(const struct stream *stream);

/* Says in `error` why the COMMIT failed, if that is because the connection broke. */
void stream_explain_commit(const struct stream *stream, struct pgq_error *error);

#endif
