#ifndef PGQ_RETRY_WAITS_H
#define PGQ_RETRY_WAITS_H

/*
 * The retry waits of a job that was enqueued without waits of its own, as Postgres writes the array. The column
 * pgq_jobs.retry_waits has the same default; a spec compares them.
 */
#define RETRY_WAITS_DEFAULT_LIST "1m0s,10m0s,30m0s"
#define RETRY_WAITS_DEFAULT "{" RETRY_WAITS_DEFAULT_LIST "}"

/* The number of these waits, and the first of them. */
enum { RETRY_WAITS_DEFAULT_COUNT = 3, RETRY_WAITS_DEFAULT_FIRST_MS = 60000 };

#endif
