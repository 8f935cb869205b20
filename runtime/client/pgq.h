#ifndef PGQ_H
#define PGQ_H

/* libpgq: enqueue jobs for pgq-lua workers from C and C++, over a libpq connection of your own.
 *
 *     struct pgq_error error;
 *     struct pgq_options options = PGQ_OPTIONS_INIT;
 *     options.delay_ms = 60000;
 *     int64_t id = pgq_enqueue(conn, "mail", "to: ann", 7, &options, &error);
 *     if (id < 0)
 *       fprintf(stderr, "%s (%s)\n", error.message, error.sqlstate);
 *
 * The library keeps no state, prints nothing, starts no threads and installs no signal handlers. Different threads may
 * call it at the same time on different connections, as with libpq itself. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#if defined(__GNUC__)
#define PGQ_API __attribute__((visibility("default")))
#else
#define PGQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Before: options and errors -----------------------------------------------------------------------------------
 */

/* The most bytes of data that a job may have: 256 MiB. */
#define PGQ_DATA_MAX ((size_t)268435456)

/* Bytes in the message of an error, the final NUL included. Longer messages are cut and end in "…". */
#define PGQ_MESSAGE_SIZE 1024

/* When a job is to run, and how often. Begin with PGQ_OPTIONS_INIT (or with all bytes zero, which is the same) and set
 * what differs. What the pointers point to stays yours, and is read only during the call. */
struct pgq_options {
  /* Earliest time to run, as the text of a timestamptz such as "2030-01-31 12:00:00+00"; NULL for none. Without an
   * offset the time is one of the connection's time zone. */
  const char *after;

  /* Milliseconds to wait before the job may run, counted on the database's clock from the moment of the call; 0 for
   * none. Not together with `after`. Without either, the job is due at once. */
  int64_t delay_ms;

  /* Waits before each further attempt, as durations in the form of Go: "1h30m", "10m0s", "250ms". The array has
   * `retry_wait_count` of them. A count of 0 means the default: three retries, after 1, 10 and 30 minutes. */
  const char *const *retry_waits;
  size_t retry_wait_count;

  /* True for a job that is never retried. Not together with `retry_waits`. */
  bool no_retries;
};

#define PGQ_OPTIONS_INIT                                                                                               \
  { NULL, 0, NULL, 0, false }

/* Why a call failed. A value of yours; nothing in it is to be freed. */
struct pgq_error {
  /* The SQLSTATE, five characters and a NUL. The one that the server sent, or one of
   *   22023  an argument cannot be used, and the message says which; nothing was sent
   *   54000  the data is longer than PGQ_DATA_MAX (nothing was sent), or the queue name is too long for the index
   *   08003  the connection is NULL                      (nothing was sent)
   *   08006  the connection is broken, or broke during the call; in that case it is not known whether the job of
   *          pgq_enqueue was enqueued, unless a transaction was open: then it was not. Many jobs were not.
   *   08007  the connection broke during the COMMIT of many jobs: it is not known whether all of them were enqueued, or
   *          none
   *   25P02  the transaction on the connection has failed (nothing was sent)
   *   55000  the connection is in pipeline mode, or still busy with another command (nothing was sent), or a callback
   *          has used it
   *   53200  out of memory
   *   02000  the database inserted no row, or fewer than there were jobs, because of a trigger or rule on the table
   *   38000  a callback ended the call
   * and 00000 after a success. */
  char sqlstate[6];

  /* One line of UTF-8 for people, without a newline; empty after a success. */
  char message[PGQ_MESSAGE_SIZE];
};

/* ---- During: enqueue ----------------------------------------------------------------------------------------------
 */

/* Enqueues one job and returns its id, which is above 0.
 *
 * `conn` is the caller's connection and stays so. If a transaction is open on it, the job is part of that transaction:
 * workers see it once it commits, and never if it rolls back. The call blocks until the server has answered, also on a
 * connection in non-blocking mode.
 *
 * `queue` is the name of the queue, UTF-8 and not empty. It arrives as the same characters whatever the client encoding
 * of the connection is. `data` are `length` bytes of any kind, at most PGQ_DATA_MAX; NULL with length 0 is empty data.
 * `options` may be NULL for the defaults.
 *
 * On failure returns -1 and, unless `error` is NULL, says why in `*error`. When the server refused the job inside a
 * transaction, that transaction has failed, as after any other error. With a client encoding other than UTF8,
 * characters outside ASCII in a message of the server may be replaced by U+FFFD. */
PGQ_API int64_t pgq_enqueue(PGconn *conn, const char *queue, const void *data, size_t length,
                            const struct pgq_options *options, struct pgq_error *error);

/* ---- During: enqueue many jobs ------------------------------------------------------------------------------------
 *
 * All jobs of a call are enqueued, or none is. When no transaction is open on the connection, the call makes one of its
 * own and commits it; on failure it rolls that back, and the connection can be used again unless it broke. When one is
 * open, the jobs are part of it; a call that fails then makes that transaction fail, as any other error does, and only
 * a rollback (to a savepoint from before the call, or of everything) is left. Only what the arguments alone show,
 * before anything is sent and before the first callback, leaves the transaction as it was.
 *
 * The jobs keep their order: each id is above the one before, and all have the same earliest time to run. Ids may have
 * gaps. Jobs travel in batches of some thousand or about a mebibyte, a larger one alone; the memory that a call takes
 * is bounded by that, not by the number of jobs.
 *
 * What is said of `conn`, `queue`, `options` and `error` for pgq_enqueue holds here. A message about one job names it
 * as "job 7: …", the first being 1; a refusal of the server that can only be said of a whole batch, such as that of a
 * CHECK constraint, as "jobs 1 to 8192: …". */

/* The data of one job: `length` bytes of any kind, at most PGQ_DATA_MAX; NULL with length 0 is empty data. */
struct pgq_job {
  const void *data;
  size_t length;
};

/* Enqueues the `count` jobs of an array, and writes their ids to `ids`, which has room for as many; `ids` may be NULL.
 * With a count of 0 nothing is sent. Returns 0, or -1 on failure; then `ids` holds nothing of use. */
PGQ_API int pgq_enqueue_many(PGconn *conn, const char *queue, const struct pgq_job *jobs, size_t count, int64_t *ids,
                             const struct pgq_options *options, struct pgq_error *error);

/* Gives the next job: sets `*job` and returns 1, or returns 0 when there is none left, or a negative number to end the
 * call with failure 38000. The data has to stay until the next call of this function, or the end of the whole call. */
typedef int pgq_next_function(void *context, struct pgq_job *job);

/* Takes the ids of the next `count` jobs, in the order of the jobs; the array is valid during the call only. The ids
 * are of use once the whole call has succeeded: until then nothing is committed. Returns 0, or another number to end
 * the call with failure 38000. */
typedef int pgq_ids_function(void *context, const int64_t *ids, size_t count);

/* Enqueues the jobs that `next` gives, until it gives no more, and hands their ids to `take`, which may be NULL.
 * `context` is passed to both. They run on the caller's thread, most of the time while the server is at work; they have
 * to return (no longjmp, no exception may leave them), and must not use `conn`.
 *
 * Returns the number of jobs, or -1 on failure. */
PGQ_API int64_t pgq_enqueue_stream(PGconn *conn, const char *queue, pgq_next_function *next, pgq_ids_function *take,
                                   void *context, const struct pgq_options *options, struct pgq_error *error);

/* ---- After: nothing is to be released -----------------------------------------------------------------------------
 */

#ifdef __cplusplus
}
#endif

#endif
