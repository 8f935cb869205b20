#ifndef PGQ_STATEMENTS_H
#define PGQ_STATEMENTS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "binary.h"

/* Every statement the worker sends, by name. The texts, with their parameters and columns, are in statements.c. */
enum statement {
  STATEMENT_WHO,
  STATEMENT_SESSION,
  STATEMENT_BEGIN,
  STATEMENT_COMMIT,
  STATEMENT_ROLLBACK,
  STATEMENT_CLAIM,
  STATEMENT_DATA,
  STATEMENT_COMPLETE,
  STATEMENT_PRESERVE,
  STATEMENT_COMPLETE_BY_ID,
  STATEMENT_PRESERVE_BY_ID,
  STATEMENT_COMPLETE_LEASED,
  STATEMENT_PRESERVE_LEASED,
  STATEMENT_FAIL,
  STATEMENT_RELEASE,
  STATEMENT_SUSPECT,
  STATEMENT_SNOOZE,
  STATEMENT_LEASE,
  STATEMENT_EXTEND,
  STATEMENT_RELOCK,
  STATEMENT_LOOK,
  STATEMENT_CHECK,
  STATEMENT_BELL_LISTEN,
  STATEMENT_BELL_KEYS,
  STATEMENT_BELL_RAISE,
  STATEMENT_BELL_PROBE,
  STATEMENT_BELL_LOWER,
  STATEMENT_CANCEL_LISTEN,
  STATEMENT_WORKER_ADD,
  STATEMENT_WORKER_SEEN,
  STATEMENT_WORKER_LOCK,
  STATEMENT_WORKERS_VANISHED,
  STATEMENT_WORKER_REMOVE,
  STATEMENT_COUNT,
};

/* Columns of STATEMENT_CLAIM's rows. What most rows have in common is null, which costs next to nothing. */
enum claim_column {
  CLAIM_QUEUE, /* int8: position, from 1, in the list of queues that was asked for; null: 1 */
  CLAIM_ID,
  CLAIM_TID, /* tid: where the row stands while it is locked; null when that says nothing, in a partition */
  CLAIM_RUN_AFTER,
  CLAIM_CREATED_AT,  /* null: the same as run_after */
  CLAIM_ATTEMPT,     /* null: 0 */
  CLAIM_RETRY_WAITS, /* null: the default, RETRY_WAITS_DEFAULT of them, first RETRY_WAIT_DEFAULT_MS */
  CLAIM_LEASE,
  CLAIM_SUSPECT,     /* null: false */
  CLAIM_DATA_LENGTH, /* null: the data is here */
  CLAIM_DATA,        /* null when larger than the limit that was given */
};

enum { RETRY_WAITS_DEFAULT = 3, RETRY_WAIT_DEFAULT_MS = 60000 };

/* Columns of STATEMENT_LOOK's rows. */
enum look_column {
  LOOK_QUEUE,   /* int8: position in the list of queues */
  LOOK_DUE,     /* bool: a job is due, though perhaps locked by somebody */
  LOOK_WAIT_MS, /* int8: until the next job falls due that is not due yet; null when there is none */
};

/* Columns of STATEMENT_BELL_KEYS' rows, one for each bucket. */
enum keys_column {
  KEYS_TABLE, /* int8: oid of pgq_jobs */
  KEYS_BELL,  /* bool: the table has its trigger */
  KEYS_BUCKET,
};

/* statement_text(statement): the SQL. statement_name(statement): for messages, and the prepared statement's name. */
const char *statement_text(enum statement statement);
const char *statement_name(enum statement statement);

/* statement_is_prepared(statement): whether it is to be prepared on a connection before it is sent there. */
bool statement_is_prepared(enum statement statement);

/*
 * statement_prepare(pg, statement), statement_send(pg, statement, parameters, unprepared): put it into the connection's
 * pipeline; `parameters` may be NULL. `unprepared`: nothing has been prepared there. 0, or -1 with libpq's message in
 * the connection.
 */
int statement_prepare(PGconn *pg, enum statement statement);
int statement_send(PGconn *pg, enum statement statement, const struct parameters *parameters, bool unprepared);

/* claim_position(result, row): CLAIM_QUEUE, but from 0. */
uint32_t claim_position(const PGresult *result, int row);

#endif
