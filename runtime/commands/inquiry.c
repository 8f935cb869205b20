#include "inquiry.h"

#include <stdio.h>

#include "database.h"

int inquiry_begin(struct inquiry *inquiry, const struct options *options, const char *command, const char *needs,
                  const char *narrow) {
  char application[64];
  snprintf(application, sizeof application, "pgq-lua %s", command);
  *inquiry = (struct inquiry){.transaction = {.command = command, .needs = needs, .narrow = narrow}};
  inquiry->transaction.conn = database_connect_as(options, application);
  if (!inquiry->transaction.conn)
    return -1;
  PGresult *result = NULL;
  if (transaction_begin(&inquiry->transaction, true) == 0)
    result = inquiry_ask(inquiry, "SELECT now()", 0, NULL);
  if (!result) {
    PQfinish(inquiry->transaction.conn);
    return -1;
  }
  snprintf(inquiry->now, sizeof inquiry->now, "%s", PQgetvalue(result, 0, 0));
  PQclear(result);
  return 0;
}

PGresult *inquiry_ask(struct inquiry *inquiry, const char *sql, int count, const char *const *values) {
  return transaction_ask(&inquiry->transaction, sql, count, values);
}

void inquiry_end(struct inquiry *inquiry) {
  transaction_rollback(&inquiry->transaction);
  PQfinish(inquiry->transaction.conn);
  inquiry->transaction.conn = NULL;
}

const char *inquiry_limit(const struct options *options, char text[24]) {
  snprintf(text, 24, "%lld", (long long)(options->limit ? options->limit : INQUIRY_LIMIT));
  return text;
}
