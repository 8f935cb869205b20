#ifndef PGQ_H
#define PGQ_H

/* libpgq: enqueues jobs for pgq-lua workers from C and C++, over a libpq connection of the caller.
 *
 *     struct pgq_error error;
 *     struct pgq_options options = PGQ_OPTIONS_INIT;
 *     options.delay_ms = 60000;
 *     int64_t id = pgq_enqueue(conn, "mail", "to: ann", 7, &options, &error);
 *     if (id < 0)
 *       fprintf(stderr, "%s (%s)\n", error.message, error.sqlstate);
 *
 * Life cycle: the library has no state of its own. Nothing is to be initialised before the first call, and nothing is
 * to be released after the last one.
 *
 *   1. Prepare   Connect with libpq. If the defaults do not fit, set up a struct pgq_options. To learn why a call
 *                failed, declare a struct pgq_error. Both are plain values of the caller.
 *   2. Enqueue   pgq_enqueue(), pgq_enqueue_many() or pgq_enqueue_stream(), any number of times, inside or outside of
 *                a transaction.
 *   3. Finish    Commit the transaction, if one is open, and close the connection with libpq.
 *
 * The library prints nothing, starts no threads and installs no signal handlers. Several threads may call it at the
 * same time on different connections, as is the rule for libpq itself. */

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

/* ---- 1. Prepare: options and errors -------------------------------------------------------------------------------
 */

/* The most bytes of data that a job may have: 256 MiB. */
#define PGQ_DATA_MAX ((size_t)268435456)

/* Size in bytes of the message of an error, with the final NUL. Longer messages are cut and end in "…". */
#define PGQ_MESSAGE_SIZE 1024

/* When a job is to run, and how often it is retried. Start with PGQ_OPTIONS_INIT (all bytes zero mean the same) and set
 * the fields that differ. The library reads the memory behind the pointers during the call only, and never frees it. */
struct pgq_options {
  /* The earliest time to run, as the text of a timestamptz such as "2030-01-31 12:00:00+00"; NULL: none. A time without
   * an offset is in the time zone of the connection. */
  const char *after;

  /* Milliseconds from the call until the job may run, on the clock of the database; 0: none. Only one of `delay_ms` and
   * `after` may be set. Without both, the job is due at once. */
  int64_t delay_ms;

  /* The waits before the second, third, … attempt, as durations such as "1h30m", "10m0s" or "250ms" (the form of Go).
   * The array has `retry_wait_count` elements. A count of 0 means the default: three retries, after 1, 10 and 30
   * minutes. */
  const char *const *retry_waits;
  size_t retry_wait_count;

  /* True: the job is never retried. `retry_wait_count` must then be 0. */
  bool no_retries;
};

#define PGQ_OPTIONS_INIT                                                                                               \
  { NULL, 0, NULL, 0, false }

/* Why a call failed. A plain value: nothing in it is to be freed. Each call sets it anew. */
struct pgq_error {
  /* The SQLSTATE: five characters and a NUL. 00000 after a success; else the one that the server has sent, or one of
   *   22023  an argument is invalid, and the message says which; nothing was sent
   *   54000  the data is longer than PGQ_DATA_MAX (nothing was sent), or the queue name is too long for the index
   *   08003  the connection is NULL; nothing was sent
   *   08006  the connection was broken, or broke during the call. If it broke during pgq_enqueue() outside of a
   *          transaction, the job may have been enqueued. Inside of a transaction, and after a call for many jobs,
   *          nothing was enqueued.
   *   08007  the connection broke during the COMMIT of many jobs: either all of them were enqueued, or none
   *   25P02  the transaction on the connection has failed before; nothing was sent
   *   55000  the connection is in pipeline mode, or another command is still running on it (nothing was sent); or a
   *          callback has used the connection
   *   53200  out of memory
   *   02000  the database has inserted no row, or fewer rows than jobs, because of a trigger or rule on the table
   *   38000  a callback has ended the call */
  char sqlstate[6];

  /* One line of UTF-8 for people, without a newline; empty after a success. */
  char message[PGQ_MESSAGE_SIZE];
};

/* ---- 2. Enqueue one job -------------------------------------------------------------------------------------------
 */

/* Enqueues one job and returns its id, which is greater than 0.
 *
 * `conn` is a connection of the caller, which still owns it afterwards. If a transaction is open on it, the job belongs
 * to that transaction: workers see the job when the transaction commits, and never if it rolls back. The call blocks
 * until the server has answered, even if the connection is in non-blocking mode.
 *
 * `queue` is the name of the queue in UTF-8, whatever the client encoding of the connection is; it must not be empty.
 * `data` are `length` bytes of any kind, at most PGQ_DATA_MAX; NULL with length 0 is empty data. `options` may be NULL
 * for the defaults.
 *
 * On failure the call returns -1 and, unless `error` is NULL, sets *error. If the server refused the job inside of a
 * transaction, that transaction has failed, as after any other error. If the client encoding is not UTF8, characters
 * outside ASCII in a message of the server may be replaced by U+FFFD. */
PGQ_API int64_t pgq_enqueue(PGconn *conn, const char *queue, const void *data, size_t length,
                            const struct pgq_options *options, struct pgq_error *error);

/* ---- 2. Enqueue many jobs -----------------------------------------------------------------------------------------
 *
 * A call enqueues all of its jobs, or none. If no transaction is open on the connection, the call begins and commits
 * one of its own; after a failure it rolls this back, and the connection can be used again unless it broke. If a
 * transaction is open, the jobs belong to it. A call that fails makes that transaction fail, as any other error does:
 * it can only be rolled back, as a whole or to a savepoint from before the call. Invalid arguments that are found
 * before anything is sent and before the first callback leave the transaction as it was.
 *
 * The ids rise in the order of the jobs, but may have gaps. All jobs have the same earliest time to run. Jobs are sent
 * in batches of some thousand jobs or about a mebibyte, a larger job alone; this bounds the memory that a call uses,
 * whatever the number of jobs.
 *
 * `conn`, `queue`, `options` and `error` are as for pgq_enqueue(). A message about one job begins with "job 7: ", where
 * the first job is 1. The server refuses some jobs, such as those that violate a CHECK constraint, as a whole batch:
 * the message then begins with "jobs 1 to 8192: ". */

/* The data of one job: `length` bytes of any kind, at most PGQ_DATA_MAX; NULL with length 0 is empty data. */
struct pgq_job {
  const void *data;
  size_t length;
};

/* Enqueues the `count` jobs of an array, and writes their ids to `ids`, which has space for `count` of them or is NULL.
 * If `count` is 0, nothing is sent. Returns 0, or -1 on failure; the content of `ids` is then undefined. */
PGQ_API int pgq_enqueue_many(PGconn *conn, const char *queue, const struct pgq_job *jobs, size_t count, int64_t *ids,
                             const struct pgq_options *options, struct pgq_error *error);

/* Provides the next job. Sets *job and returns 1; or returns 0 if no job is left, or a negative number to end the call
 * with failure 38000. The data must stay valid until the next call of this function or the end of the whole call. */
typedef int pgq_next_function(void *context, struct pgq_job *job);

/* Receives the ids of the next `count` jobs, in the order of the jobs. The array is valid during the call only. Nothing
 * is committed before the whole call has succeeded, so the ids must not be used before. Returns 0, or another number to
 * end the call with failure 38000. */
typedef int pgq_ids_function(void *context, const int64_t *ids, size_t count);

/* Enqueues the jobs that `next` provides, until it returns 0, and passes their ids to `take`, which may be NULL. Both
 * receive `context`. They run on the caller's thread, mostly while the server is at work. They must return (no
 * longjmp() and no exception may leave them) and must not use `conn`.
 *
 * Returns the number of jobs, or -1 on failure. */
PGQ_API int64_t pgq_enqueue_stream(PGconn *conn, const char *queue, pgq_next_function *next, pgq_ids_function *take,
                                   void *context, const struct pgq_options *options, struct pgq_error *error);

/* ---- 3. Finish: nothing is to be released -------------------------------------------------------------------------
 */

#ifdef __cplusplus
}
#endif

#endif
