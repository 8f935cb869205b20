#include "ask_workers.h"

#include <stdio.h>
#include <string.h>

#include "commands_sql.h"
#include "database.h"
#include "refusal.h"
#include "transaction.h"

#define NEEDS                                                                                                          \
  "{pgq_workers SELECT,pgq_workers UPDATE request,pgq_audit INSERT verb,pgq_audit INSERT selection,"                   \
  "pgq_audit INSERT count}"

struct asking {
  const char *command; /* as the user writes it */
  const char *request; /* as pgq_workers has it */
  const char *answer;  /* what the line says */
};

static int misuse(const struct asking *asking, const char *problem) {
  char usage[60];
  snprintf(usage, sizeof usage, "%s [options] WORKER… | --all", asking->command);
  return refuse(asking->command, usage, "%s", problem);
}

static void print(const struct asking *asking, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++)
    printf("worker %s (%s) %s%s\n", PQgetvalue(result, row, 0), PQgetvalue(result, row, 1), asking->answer,
           *PQgetvalue(result, row, 2) == 't' ? "" : "; but it was not seen for half a minute");
}

/* Asks one worker, or all if `worker` is NULL, in a transaction of its own. Returns 0, or 1 after a message. */
static int ask(struct transaction *transaction, const struct asking *asking, const char *worker) {
  PGresult *result = NULL;
  if (transaction_begin(transaction, false) != 0)
    return 1;
  result = transaction_ask(transaction, SQL_ASK_WORKERS, 2, (const char *[]){worker, asking->request});
  if (!result || transaction_commit(transaction) != 0) {
    PQclear(result);
    return 1;
  }
  int found = PQntuples(result);
  print(asking, result);
  fflush(stdout);
  PQclear(result);
  if (found > 0)
    return 0;
  if (worker)
    fprintf(stderr, "pgq-lua %s: there is no worker '%.200s'; `pgq-lua workers` lists them\n", asking->command, worker);
  else
    fprintf(stderr, "pgq-lua %s: no worker runs\n", asking->command);
  return 1;
}

static int ask_all(const struct options *options, const struct asking *asking, int argc, char **argv) {
  char application[32];
  struct transaction transaction = {.command = asking->command, .needs = NEEDS, .lock_wait_ms = options->lock_wait_ms};
  if (argc == 0 && !options->all)
    return misuse(asking, "the worker is missing; write host:pid, an id, or --all");
  if (argc > 0 && options->all)
    return misuse(asking, "--all and a worker exclude each other");
  snprintf(application, sizeof application, "pgq-lua %s", asking->command);
  transaction.conn = database_connect_as(options, application);
  if (!transaction.conn)
    return 1;
  int status = options->all ? ask(&transaction, asking, NULL) : 0;
  for (int i = 0; i < argc && PQstatus(transaction.conn) == CONNECTION_OK; i++)
    status |= ask(&transaction, asking, argv[i]);
  PQfinish(transaction.conn);
  return status;
}

int quiet_command(const struct options *options, int argc, char **argv) {
  static const struct asking on = {"quiet", "quiet", "claims nothing more, and finishes its jobs"};
  static const struct asking off = {"quiet", "resume", "claims jobs again"};
  return ask_all(options, options->off ? &off : &on, argc, argv);
}

int stop_command(const struct options *options, int argc, char **argv) {
  static const struct asking asking = {"stop", "stop", "stops when its jobs have ended, or its grace time is over"};
  return ask_all(options, &asking, argc, argv);
}

int reload_command(const struct options *options, int argc, char **argv) {
  static const struct asking asking = {"reload", "reload", "reloads its script; its log has the result"};
  return ask_all(options, &asking, argc, argv);
}
