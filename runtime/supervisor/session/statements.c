#include "statements.h"

struct statement_row {
  const char *name; /* of the prepared statement */
  const char *text;
  bool prepared;
  int count; /* of parameters */
  Oid types[PARAMETERS_MAX];
};

/* Made by the build from the files of sql/worker. */
static const struct statement_row rows[STATEMENT_COUNT] = {
#include "statement_rows.h"
};

bool statement_is_prepared(enum statement statement) {
  return rows[statement].prepared;
}

int statement_prepare(PGconn *pg, enum statement statement) {
  const struct statement_row *row = &rows[statement];
  return PQsendPrepare(pg, row->name, row->text, row->count, row->types) ? 0 : -1;
}

int statement_send(PGconn *pg, enum statement statement, const struct parameters *parameters, bool unprepared) {
  const char *values[PARAMETERS_MAX] = {0};
  int lengths[PARAMETERS_MAX] = {0}, formats[PARAMETERS_MAX];
  int count = parameters ? parameters->count : 0;
  for (int i = 0; i < count; i++) {
    formats[i] = 1;
    values[i] = parameters->lengths[i] < 0 ? NULL : (const char *)parameters->bytes.bytes + parameters->offsets[i];
    lengths[i] = parameters->lengths[i];
  }
  const struct statement_row *row = &rows[statement];
  if (row->prepared && !unprepared)
    return PQsendQueryPrepared(pg, row->name, count, values, lengths, formats, 1) ? 0 : -1;
  return PQsendQueryParams(pg, row->text, count, row->types, values, lengths, formats, 1) ? 0 : -1;
}

uint32_t claim_position(const PGresult *result, int row) {
  return PQgetisnull(result, row, CLAIM_QUEUE) ? 0 : (uint32_t)result_i64(result, row, CLAIM_QUEUE) - 1;
}

bool claim_fits(const PGresult *result) {
  static const Oid types[] = {
      [CLAIM_QUEUE] = OID_INT8,
      [CLAIM_ID] = OID_INT8,
      [CLAIM_TID] = OID_TID,
      [CLAIM_RUN_AFTER] = OID_TIMESTAMPTZ,
      [CLAIM_CREATED_AT] = OID_TIMESTAMPTZ,
      [CLAIM_ATTEMPT] = OID_INT4,
      [CLAIM_RETRY_WAITS] = OID_TEXT_ARRAY,
      [CLAIM_LEASE] = OID_INT8,
      [CLAIM_DEATHS] = OID_INT4,
      [CLAIM_DATA_LENGTH] = OID_INT4,
      [CLAIM_DATA] = OID_BYTEA,
  };
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (types[i] != 0 && PQftype(result, (int)i) != types[i])
      return false;
  return true;
}
