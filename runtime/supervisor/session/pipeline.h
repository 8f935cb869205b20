#ifndef PGQ_PIPELINE_H
#define PGQ_PIPELINE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "statements.h"

/*
 * The statements that are under way in one session in libpq's pipeline mode. libpq returns results without saying to
 * which statement they belong; the pipeline knows, because results come in the order of the statements.
 *
 * An act is a group of statements that ends with a sync. After a statement that failed, the server skips the rest of
 * its act; each skipped statement gets a result of status PGRES_PIPELINE_ABORTED.
 */
struct pipeline {
  PGconn *pg;
  bool unprepared; /* nothing has been prepared in this session: statements are sent as text */

  /* Entries head to tail - 1 are to be answered: a statement, or the sync that ends an act. */
  unsigned char *entries;
  size_t head, tail, capacity;
  bool answered;                 /* the entry at the head has got its result; the NULL after it is still to come */
  enum statement last_statement; /* the last one that was answered */
};

enum pipeline_answer {
  PIPELINE_NOTHING, /* no complete answer has come in */
  PIPELINE_RESULT,  /* a statement's result */
  PIPELINE_SYNCED,  /* the act is over */
};

/* pipeline_begin(pipeline, pg): begins with a new session, which stays the caller's, and enters pipeline mode. */
void pipeline_begin(struct pipeline *pipeline, PGconn *pg);

/* pipeline_clear(pipeline): forgets all statements that are under way. To be called when the session is closed. */
void pipeline_clear(struct pipeline *pipeline);

/* pipeline_free(pipeline): frees what the pipeline has allocated. */
void pipeline_free(struct pipeline *pipeline);

/*
 * pipeline_send() puts a statement with its parameters (NULL: none) into the pipeline, as text if it is not prepared;
 * pipeline_send_text() always sends the text. pipeline_prepare() prepares a statement; the result comes as that of
 * STATEMENT_SESSION_SETTINGS. pipeline_sync() ends the act. Each function returns 0, or -1 when libpq refuses the call:
 * then the session cannot be used any more, and libpq's message says why.
 */
int pipeline_send(struct pipeline *pipeline, enum statement statement, const struct parameters *parameters);
int pipeline_send_text(struct pipeline *pipeline, enum statement statement, const struct parameters *parameters);
int pipeline_prepare(struct pipeline *pipeline, enum statement statement);
int pipeline_sync(struct pipeline *pipeline);

/*
 * pipeline_next(pipeline, statement, result): takes the next answer from the results that have come in. With
 * PIPELINE_RESULT, `statement` and `result` are set, and the caller clears the result.
 */
enum pipeline_answer pipeline_next(struct pipeline *pipeline, enum statement *statement, PGresult **result);

/* result_failed(result): whether the statement failed or was skipped. result_is_cause(result): whether the statement
 * itself failed. */
bool result_failed(const PGresult *result);
bool result_is_cause(const PGresult *result);

#endif
