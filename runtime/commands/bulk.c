#include "bulk.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "buffer.h"
#include "clock.h"
#include "commands_sql.h"
#include "database.h"
#include "listing.h"
#include "progress.h"
#include "refusal.h"
#include "search.h"
#include "walk.h"

/* More jobs than this are changed only after a question, on a terminal. */
enum { ASK_FROM = 100 };

enum { EXAMPLES = 10 };

struct bulk {
  const struct bulk_verb *verb;
  const struct options *options;
  struct selection selection;
  struct transaction transaction;
  struct audit audit;
  struct progress progress;
  unsigned states;
  int64_t changed; /* jobs that were changed, in transactions that are committed */
  int64_t skipped; /* jobs that are selected, and run */
  int64_t kept;    /* jobs that the statement could not change although it had locked them */
  int64_t passed;  /* jobs that other sessions have locked */
  int64_t altered; /* jobs that were selected, and have ended, were changed or are gone since then */
  int64_t unfit;   /* jobs that the checks of the table would not take */
  char first_passed[24], first_unfit[24];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal) {
  interrupted = signal;
}

/* The first signal ends the command after its step; the second one ends it at once. */
static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ── ids ── */

static char *ids_text(const int64_t *ids, int count) {
  struct buffer text = {0};
  char number[24];
  buffer_add(&text, "{", 1);
  for (int i = 0; i < count; i++) {
    int length = snprintf(number, sizeof number, "%s%" PRId64, i > 0 ? "," : "", ids[i]);
    buffer_add(&text, number, (size_t)length);
  }
  buffer_add(&text, "}", 2); /* with the NUL */
  return (char *)text.bytes;
}

/* How many of `count` jobs may still be taken because of --limit. */
static int limit(const struct bulk *bulk, int64_t taken, int count) {
  int64_t most = bulk->selection.limit;
  return most == 0 || count <= most - taken ? count : (int)(most - taken);
}

/* ── looking at the selection before anything is changed ── */

/* What is known about the selection. */
struct count {
  int64_t jobs; /* how many are selected, up to a step more than LISTING_MOST; -1 after an error, which was printed */
  int64_t read; /* 0; or among how many, when it took too long to look at all */
  int64_t examples[EXAMPLES];
};

/* Whether the walk has taken long, and has read enough to be worth an answer. Each step counts as some rows. */
static bool takes_long(const struct walk *walk, int steps, int64_t began_ms) {
  return walk->read + (int64_t)steps * 20 >= SEARCH_FIRST && clock_ms() - began_ms >= SEARCH_MS;
}

/* Counts the selected jobs in one transaction. */
static struct count count_jobs(struct bulk *bulk) {
  struct walk walk;
  struct count count = {0};
  int64_t ids[WALK_STEP], began_ms = clock_ms();
  int found = transaction_begin(&bulk->transaction, true);
  walk_begin(&walk, &bulk->selection, bulk->states);
  for (int steps = 1; found >= 0 && !walk.done && count.jobs <= LISTING_MOST && count.read == 0; steps++) {
    found = walk_next(&walk, &bulk->transaction, ids);
    int kept = found > 0 ? limit(bulk, count.jobs, found) : 0;
    for (int i = 0; i < kept && count.jobs + i < EXAMPLES; i++)
      count.examples[count.jobs + i] = ids[i];
    count.jobs += kept;
    walk.done = walk.done || (bulk->selection.limit > 0 && count.jobs >= bulk->selection.limit);
    count.read = !walk.done && takes_long(&walk, steps, began_ms) ? walk.read : 0;
  }
  if (found < 0)
    count.jobs = -1;
  else
    transaction_rollback(&bulk->transaction);
  bulk->skipped = walk.running;
  walk_end(&walk);
  return count;
}

/* Writes "12 jobs", "10000+ jobs", or "12 jobs of the first 150000". */
static const char *count_text(const struct count *count, char text[80]) {
  bool capped = count->jobs > LISTING_MOST;
  int length = snprintf(text, 80, "%" PRId64 "%s job%s", capped ? LISTING_MOST : count->jobs, capped ? "+" : "",
                        count->jobs == 1 ? "" : "s");
  if (count->read > 0 && !capped)
    snprintf(text + length, 80 - (size_t)length, " of the first %" PRId64, count->read);
  return text;
}

/* Says how to count all, if not all were. */
static void tell_uncounted(const struct bulk *bulk, const struct count *count) {
  if (count->read > 0 && count->jobs <= LISTING_MOST)
    fprintf(
        stderr,
        "pgq-lua %s: the other jobs were not looked at, since that would take long: narrow the selection by --queue, "
        "--state, --since or --before to count them\n",
        bulk->verb->command);
}

static int print_examples(struct bulk *bulk, const int64_t *ids, int count) {
  static const struct listing_column columns[] = {{"id", "ID", LISTING_NUMBER},
                                                  {"queue", "QUEUE", LISTING_LONG},
                                                  {"state", "STATE", LISTING_TEXT},
                                                  {"at", "WHEN", LISTING_TIME},
                                                  {"error", "ERROR", LISTING_LONG}};
  enum { COLUMNS = sizeof columns / sizeof columns[0] };
  struct listing listing;
  char *text = ids_text(ids, count);
  PGresult *result = NULL;
  if (transaction_begin(&bulk->transaction, true) == 0)
    result = transaction_ask(&bulk->transaction, SQL_EXAMPLE_JOBS, 1, (const char *[]){text});
  free(text);
  if (!result)
    return 1;
  transaction_rollback(&bulk->transaction);
  listing_init(&listing, bulk->options, columns, COLUMNS, bulk->selection.now);
  for (int row = 0; row < PQntuples(result); row++) {
    const char *values[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
      values[column] = PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
    listing_add(&listing, values);
  }
  PQclear(result);
  return listing_finish(&listing, bulk->verb->command, "") == 0 ? 0 : 1;
}

static int dry_run(struct bulk *bulk) {
  char text[80];
  struct count count = count_jobs(bulk);
  int64_t jobs = count.jobs;
  if (jobs < 0)
    return 1;
  printf("%s would be %s%s\n", count_text(&count, text), bulk->verb->done,
         jobs == 0                           ? ""
         : jobs > EXAMPLES || count.read > 0 ? ", such as"
                                             : ":");
  if (jobs == 0)
    selection_explain_none(&bulk->selection, bulk->verb->command);
  int status = jobs == 0 ? 0 : print_examples(bulk, count.examples, jobs < EXAMPLES ? (int)jobs : EXAMPLES);
  tell_uncounted(bulk, &count);
  return status;
}

/* Returns whether the user agrees, or nobody is to be asked. */
static bool is_agreed(struct bulk *bulk) {
  char text[80], answer[16] = "";
  if (bulk->options->yes || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
    return true;
  struct count count = count_jobs(bulk);
  bulk->skipped = 0;
  if (count.jobs <= ASK_FROM && count.read == 0)
    return count.jobs >= 0;
  tell_uncounted(bulk, &count);
  fprintf(stderr, "%s would be %s (%s). Go on? [y/N] ", count_text(&count, text), bulk->verb->done,
          bulk->audit.selection);
  fflush(stderr);
  if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
    return true;
  fprintf(stderr, "pgq-lua %s: nothing was changed\n", bulk->verb->command);
  return false;
}

/* ── changing jobs ── */

/* The columns of left_jobs.sql. */
enum left_column { LEFT_RUNNING, LEFT_LOCKED, LEFT_FIRST_LOCKED, LEFT_ALTERED };

/* Adds a number of jobs that were left alone, and keeps the id of the first, which is the next column. Returns the
 * number. */
static int64_t add_left(const PGresult *result, int number, int64_t *sum, char first[24]) {
  int64_t count = PQnfields(result) > number ? atoll(PQgetvalue(result, 0, number)) : 0;
  *sum += count;
  if (count > 0 && !*first)
    snprintf(first, 24, "%s", PQgetvalue(result, 0, number + 1));
  return count;
}

/* Counts the jobs that the statement of the verb has left alone, by what has become of them. Returns 0, or -1 after
 * printing a message. */
static int count_others(struct bulk *bulk, const char *ids) {
  char states[80];
  selection_states(bulk->verb->may_states & ~(unsigned)JOB_RUNNING, states, sizeof states);
  PGresult *result = transaction_ask(&bulk->transaction, SQL_LEFT_JOBS, 2, (const char *[]){ids, states});
  if (!result)
    return -1;
  bulk->skipped += atoll(PQgetvalue(result, 0, LEFT_RUNNING));
  add_left(result, LEFT_LOCKED, &bulk->passed, bulk->first_passed);
  bulk->altered += atoll(PQgetvalue(result, 0, LEFT_ALTERED));
  PQclear(result);
  return 0;
}

/* Changes these jobs in the transaction, and commits it. Returns 0, or -1 after printing a message. */
static int change(struct bulk *bulk, const int64_t *ids, int count) {
  char *text = ids_text(ids, count);
  const char *values[] = {text, bulk->options->keep_waits ? "t" : "f"};
  PGresult *result = transaction_ask(&bulk->transaction, bulk->verb->sql, bulk->verb->keeps_waits ? 2 : 1, values);
  free(text);
  if (!result)
    return -1;
  int64_t locked = atoll(PQgetvalue(result, 0, CHANGE_LOCKED)), changed = atoll(PQgetvalue(result, 0, CHANGE_CHANGED));
  int64_t unfit = add_left(result, CHANGE_UNFIT, &bulk->unfit, bulk->first_unfit);
  int counted = PQgetisnull(result, 0, CHANGE_OTHERS) ? 0 : count_others(bulk, PQgetvalue(result, 0, CHANGE_OTHERS));
  PQclear(result);
  if (counted != 0 || (changed > 0 && audit_write(&bulk->audit, &bulk->transaction, bulk->changed + changed) != 0) ||
      transaction_commit(&bulk->transaction) != 0)
    return -1;
  bulk->changed += changed;
  bulk->kept += locked - changed - unfit;
  return 0;
}

/* Takes the next step of the walk in a transaction. Returns 0, or -1 after printing a message. */
static int take_step(struct bulk *bulk, struct walk *walk) {
  int64_t ids[WALK_STEP];
  if (transaction_begin(&bulk->transaction, false) != 0)
    return -1;
  int found = walk_next(walk, &bulk->transaction, ids);
  if (found < 0)
    return -1;
  found = limit(bulk, bulk->changed, found);
  if (found == 0) {
    transaction_rollback(&bulk->transaction);
    return 0;
  }
  return change(bulk, ids, found);
}

static void tell(const struct bulk *bulk, bool failed) {
  const char *command = bulk->verb->command;
  printf("%s %" PRId64 " job%s\n", bulk->verb->done, bulk->changed, bulk->changed == 1 ? "" : "s");
  fflush(stdout);
  if (bulk->skipped > 0)
    fprintf(stderr, "pgq-lua %s: %" PRId64 " that %s left alone\n", command, bulk->skipped,
            bulk->skipped == 1 ? "runs was" : "run were");
  if (bulk->passed > 0)
    fprintf(stderr,
            "pgq-lua %s: %" PRId64 " that other sessions have locked %s left alone; `pgq-lua why %s` says who has "
            "locked the first\n",
            command, bulk->passed, bulk->passed == 1 ? "was" : "were", bulk->first_passed);
  if (bulk->altered > 0)
    fprintf(stderr, "pgq-lua %s: %" PRId64 " that ended, were changed or deleted meanwhile %s left alone\n", command,
            bulk->altered, bulk->altered == 1 ? "was" : "were");
  if (bulk->unfit > 0)
    fprintf(stderr, "pgq-lua %s: %" PRId64 " %s left alone, the first being job %s: " CHANGE_UNFIT_ADVICE "\n", command,
            bulk->unfit, bulk->unfit == 1 ? "was" : "were", bulk->first_unfit);
  if (bulk->kept > 0)
    fprintf(stderr, "pgq-lua %s: %" PRId64 " could not be changed: a trigger, rule or row security keeps them\n",
            command, bulk->kept);
  if (interrupted || failed)
    fprintf(stderr, "pgq-lua %s: %s; what was done is committed, and the same command does the rest\n", command,
            interrupted ? "interrupted" : "stopped after an error");
}

static int change_all(struct bulk *bulk) {
  struct walk walk;
  int status = 0;
  catch_signals(); /* not before: ^C at the question ends the command */
  progress_begin(&bulk->progress, -1);
  walk_begin(&walk, &bulk->selection, bulk->states);
  while (status == 0 && !walk.done && !interrupted) {
    status = take_step(bulk, &walk);
    progress_count(&bulk->progress, bulk->verb->done, bulk->changed);
    walk.done = walk.done || (bulk->selection.limit > 0 && bulk->changed >= bulk->selection.limit);
  }
  bulk->skipped += walk.running;
  walk_end(&walk);
  progress_leave(&bulk->progress);
  tell(bulk, status != 0);
  if (status == 0 && !interrupted && bulk->changed == 0 && bulk->skipped == 0 && bulk->passed == 0 &&
      bulk->altered == 0)
    selection_explain_none(&bulk->selection, bulk->verb->command);
  bool left = bulk->skipped > 0 || bulk->kept > 0 || bulk->passed > 0 || bulk->altered > 0 || bulk->unfit > 0;
  return status != 0 || interrupted || left ? 1 : 0;
}

/* ── the command ── */

static int run(struct bulk *bulk) {
  char application[32];
  snprintf(application, sizeof application, "pgq-lua %s", bulk->verb->command);
  bulk->transaction = (struct transaction){.command = bulk->verb->command,
                                           .needs = bulk->verb->needs,
                                           .narrow = "select a queue, a state, or a time (--since, --before)",
                                           .lock_wait_ms = bulk->options->lock_wait_ms,
                                           .wait = {.interrupted = &interrupted}};
  bulk->transaction.conn = database_connect_as(bulk->options, application);
  if (!bulk->transaction.conn || transaction_begin(&bulk->transaction, true) != 0 ||
      selection_resolve(&bulk->selection, &bulk->transaction) != 0)
    return bulk->transaction.refused ? 2 : 1;
  transaction_rollback(&bulk->transaction);
  char *selection = selection_describe(&bulk->selection);
  bulk->audit = (struct audit){
      .verb = bulk->verb->command, .selection = selection, .detail = bulk->options->keep_waits ? "--keep-waits" : NULL};
  int status = bulk->options->dry_run ? dry_run(bulk) : is_agreed(bulk) ? change_all(bulk) : 1;
  free(selection);
  return status;
}

/* Returns the problem with the options, or NULL. */
static const char *find_misuse(const struct bulk *bulk) {
  if (!bulk->selection.any && !bulk->selection.all)
    return "say which jobs: give their ids, or options that select jobs, or --all";
  if (bulk->selection.states & ~bulk->verb->may_states)
    return bulk->verb->may_not;
  return NULL;
}

int bulk_run(const struct bulk_verb *verb, const struct options *options) {
  struct bulk bulk = {.verb = verb, .options = options};
  if (selection_read(&bulk.selection, options, verb->command) != 0) {
    selection_free(&bulk.selection);
    return 2;
  }
  const char *misuse = find_misuse(&bulk);
  bulk.states = bulk.selection.states ? bulk.selection.states : verb->states;
  int status = 2;
  if (misuse)
    refuse(verb->command, verb->usage, "%s", misuse);
  else
    status = run(&bulk);
  PQfinish(bulk.transaction.conn);
  selection_free(&bulk.selection);
  return status;
}
