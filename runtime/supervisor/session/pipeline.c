#include "pipeline.h"

#include <stdlib.h>

#include "memory.h"

/* The entry for a sync; all others are statements. */
enum { ENTRY_SYNC = STATEMENT_COUNT };

_Static_assert(ENTRY_SYNC <= 255, "an entry of the pipeline is one byte");

bool result_failed(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE || status == PGRES_PIPELINE_ABORTED;
}

bool result_is_cause(const PGresult *result) {
  return result_failed(result) && PQresultStatus(result) != PGRES_PIPELINE_ABORTED;
}

void pipeline_begin(struct pipeline *pipeline, PGconn *pg) {
  pipeline->pg = pg;
  pipeline->unprepared = true;
  PQsetnonblocking(pg, 1);
  PQenterPipelineMode(pg);
}

void pipeline_clear(struct pipeline *pipeline) {
  pipeline->pg = NULL;
  pipeline->head = pipeline->tail = 0;
  pipeline->answered = false;
}

void pipeline_free(struct pipeline *pipeline) {
  free(pipeline->entries);
  *pipeline = (struct pipeline){0};
}

static void expect(struct pipeline *pipeline, int entry) {
  if (pipeline->head == pipeline->tail)
    pipeline->head = pipeline->tail = 0;
  if (pipeline->tail == pipeline->capacity) {
    pipeline->capacity = pipeline->capacity ? pipeline->capacity * 2 : 32;
    pipeline->entries = memory_resize(pipeline->entries, pipeline->capacity);
  }
  pipeline->entries[pipeline->tail++] = (unsigned char)entry;
}

int pipeline_send(struct pipeline *pipeline, enum statement statement, const struct parameters *parameters) {
  expect(pipeline, statement);
  return statement_send(pipeline->pg, statement, parameters, pipeline->unprepared);
}

int pipeline_send_text(struct pipeline *pipeline, enum statement statement, const struct parameters *parameters) {
  expect(pipeline, statement);
  return statement_send(pipeline->pg, statement, parameters, true);
}

int pipeline_prepare(struct pipeline *pipeline, enum statement statement) {
  expect(pipeline, STATEMENT_SESSION_SETTINGS);
  return statement_prepare(pipeline->pg, statement);
}

int pipeline_sync(struct pipeline *pipeline) {
  expect(pipeline, ENTRY_SYNC);
  return PQpipelineSync(pipeline->pg) ? 0 : -1;
}

/*
 * To be called when the entry at the head has no more results. A result that came while a sync was at the head belonged
 * to the act before it: the error of a commit, in an act without BEGIN. The sync itself is still to come then.
 */
static void close_answer(struct pipeline *pipeline) {
  if (pipeline->answered && pipeline->entries[pipeline->head] != ENTRY_SYNC)
    pipeline->head++;
  pipeline->answered = false;
}

enum pipeline_answer pipeline_next(struct pipeline *pipeline, enum statement *statement, PGresult **result) {
  while (pipeline->head < pipeline->tail && !PQisBusy(pipeline->pg)) {
    PGresult *next = PQgetResult(pipeline->pg);
    if (!next && !pipeline->answered)
      return PIPELINE_NOTHING;
    close_answer(pipeline); /* after an error, libpq may omit the NULL that ends the results of a statement */
    if (!next)
      continue;
    if (PQresultStatus(next) == PGRES_PIPELINE_SYNC) {
      PQclear(next);
      pipeline->head++;
      return PIPELINE_SYNCED;
    }
    pipeline->answered = true;
    if (pipeline->entries[pipeline->head] != ENTRY_SYNC)
      pipeline->last_statement = (enum statement)pipeline->entries[pipeline->head];
    *statement = pipeline->last_statement;
    *result = next;
    return PIPELINE_RESULT;
  }
  return PIPELINE_NOTHING;
}
