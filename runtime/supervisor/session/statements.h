#ifndef PGQ_STATEMENTS_H
#define PGQ_STATEMENTS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "binary.h"

/*
 * Every statement that the worker sends. The build makes the constants from the files of sql/worker: STATEMENT_CLAIM is
 * sql/worker/claim.sql, whose comment states its purpose and its parameters. A new file is a new statement.
 */
enum statement {
#include "statement_enum.h"
  STATEMENT_COUNT,
};

/* Columns of STATEMENT_CLAIM's rows. A value that most jobs share is returned as null, which costs the least. */
enum claim_column {
  CLAIM_QUEUE, /* int8: position of the queue in $1, counted from 1; null: 1 */
  CLAIM_ID,
  CLAIM_TID, /* tid: place of the row while it is locked; null in a partition, where a place is not unique */
  CLAIM_RUN_AFTER,
  CLAIM_CREATED_AT,  /* null: the same as run_after */
  CLAIM_ATTEMPT,     /* null: 0 */
  CLAIM_RETRY_WAITS, /* null: RETRY_WAITS_DEFAULT */
  CLAIM_LEASE,
  CLAIM_DEATHS,      /* null: 0 */
  CLAIM_INTERRUPTED, /* null: false */
  CLAIM_DATA_LENGTH, /* null: CLAIM_DATA has the data */
  CLAIM_DATA,        /* null: longer than $3 */
};

/* Columns of STATEMENT_NEXT_DUE's rows. */
enum next_due_column {
  NEXT_DUE_QUEUE,   /* int8: position of the queue in $1, counted from 1 */
  NEXT_DUE_NOW,     /* bool: a job is due, although another session may have locked it */
  NEXT_DUE_WAIT_MS, /* int8: milliseconds until the next job that is not due yet falls due; null: there is none */
};

/* Columns of STATEMENT_FIND_DEAD_WORKERS's rows. */
enum dead_workers_column {
  DEAD_WORKERS_ID,      /* int8; null in the last row */
  DEAD_WORKERS_WAIT_MS, /* int8, in the last row: milliseconds until the next worker may count as dead; null: none */
  DEAD_WORKERS_OTHERS,  /* int8, in the last row: number of other workers */
};

/* Columns of STATEMENT_END_DEAD_WORKER's row; there is none if the worker is not dead after all. */
enum dead_worker_column {
  DEAD_WORKER_HOST,
  DEAD_WORKER_PID,
  DEAD_WORKER_JOBS,    /* int8: how many leases were ended */
  DEAD_WORKER_DELETED, /* bool: the worker's row was deleted */
};

/* Columns of STATEMENT_DOORBELL_KEYS's rows, one row for each bucket. */
enum doorbell_keys_column {
  DOORBELL_KEYS_TABLE,   /* int8: oid of pgq_jobs */
  DOORBELL_KEYS_TRIGGER, /* bool: the trigger pgq_ring exists and is enabled */
  DOORBELL_KEYS_BUCKET,
};

/* Columns of STATEMENT_QUEUE_SETTINGS's rows. */
enum queue_settings_column {
  QUEUE_SETTINGS_QUEUE,      /* int8: position of the queue in $1, counted from 1 */
  QUEUE_SETTINGS_LEFT_MS,    /* int8: milliseconds until the pause ends, INT64_MAX for infinity; null: not paused */
  QUEUE_SETTINGS_RESUMED_AT, /* timestamptz: when the queue was last resumed; null: never */
  QUEUE_SETTINGS_UNTIL,      /* text, like the last two: until when, by whom and why the queue is paused; may be null */
  QUEUE_SETTINGS_BY,
  QUEUE_SETTINGS_REASON,
};

/* Columns of STATEMENT_SAMPLE_QUEUES's rows, one row for each queue. */
enum sample_queues_column {
  SAMPLE_QUEUES_QUEUE,     /* int8: position of the queue in $1, counted from 1 */
  SAMPLE_QUEUES_DUE,       /* int8: jobs that are due, at most $2 */
  SAMPLE_QUEUES_OLDEST_MS, /* int8: for how many milliseconds the oldest has been due; null: there is none */
};

/* Columns of STATEMENT_SAMPLE_XMIN's row. */
enum sample_xmin_column {
  SAMPLE_XMIN_IDS,      /* int8: transactions since the oldest snapshot */
  SAMPLE_XMIN_SINCE_MS, /* int8: for how many milliseconds the oldest transaction has been open */
};

/* Columns of STATEMENT_DOORBELL_PEERS's rows. */
enum doorbell_peers_column {
  DOORBELL_PEERS_ID,  /* int8 */
  DOORBELL_PEERS_PID, /* int4 */
};

/* Whether the statement is prepared in a session before it is sent there. */
bool statement_is_prepared(enum statement statement);

/*
 * Puts the preparation of the statement into the connection's pipeline. Returns 0, or -1 with libpq's message in the
 * connection.
 */
int statement_prepare(PGconn *pg, enum statement statement);

/*
 * Puts the statement into the connection's pipeline, with its parameters in the order of its file, or NULL if it has
 * none. They are copied. `unprepared` states that no statement has been prepared in this session, so the text is sent.
 * Returns 0, or -1 with libpq's message in the connection.
 */
int statement_send(PGconn *pg, enum statement statement, const struct parameters *parameters, bool unprepared);

/* Whether the columns of STATEMENT_CLAIM's result have the types that the worker reads. Without prepared statements the
 * server does not notice that a column has got another type. */
bool claim_fits(const PGresult *result);

/* Returns CLAIM_QUEUE of a row of STATEMENT_CLAIM's result, counted from 0. */
uint32_t claim_position(const PGresult *result, int row);

#endif
