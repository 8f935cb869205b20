#include "audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "commands_sql.h"

int audit_write(struct audit *audit, struct transaction *transaction, int64_t count) {
  char number[24];
  snprintf(number, sizeof number, "%" PRId64, count);
  PGresult *result =
      *audit->id ? transaction_ask(transaction, SQL_COUNT_AUDIT, 2, (const char *[]){audit->id, number})
                 : transaction_ask(transaction, SQL_ADD_AUDIT, 5,
                                   (const char *[]){audit->verb, audit->selection, audit->ids, number, audit->detail});
  if (!result)
    return -1;
  int rows = PQntuples(result);
  if (rows > 0)
    snprintf(audit->id, sizeof audit->id, "%s", PQgetvalue(result, 0, 0));
  PQclear(result);
  if (rows > 0)
    return 0;
  transaction_rollback(transaction);
  fprintf(stderr, "pgq-lua %s: pgq_audit does not take the row: is there a trigger, rule or row security on it?\n",
          transaction->command);
  return -1;
}
