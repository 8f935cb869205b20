#include "walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "commands_sql.h"
#include "memory.h"

/* While few of the rows that are read are selected, a step reads more of them, unless it takes long already. */
enum { ROWS_MOST = 20 * WALK_STEP, FEW = WALK_STEP / 10, LONG_MS = 100 };

/* The ways in which a job has ended, as the index pgq_jobs_ended has them, by their bits. */
struct end_row {
  enum job_state state;
  const char *letter;
};

static const struct end_row ends[] = {{JOB_FAILED, "f"}, {JOB_COMPLETED, "d"}, {JOB_CANCELLED, "c"}};

enum { ENDS = sizeof ends / sizeof ends[0] };

void walk_begin(struct walk *walk, const struct selection *selection, unsigned states) {
  if (selection->pattern) /* completed jobs have no error */
    states &= ~(unsigned)JOB_COMPLETED;
  *walk = (struct walk){.selection = selection, .states = states, .rows = WALK_STEP, .done = states == 0};
}

void walk_end(struct walk *walk) {
  free(walk->queue);
  free(walk->time);
  walk->queue = walk->time = NULL;
}

/* ── from one part of a queue to the next ── */

static void set_place(struct walk *walk, const char *time, const char *id) {
  char *copy = memory_text(time);
  free(walk->time);
  walk->time = copy;
  snprintf(walk->id, sizeof walk->id, "%s", id);
}

/* Begins a part of the queue. */
static void begin_part(struct walk *walk, unsigned part) {
  static const char least[] = "-9223372036854775808", most[] = "9223372036854775807";
  const struct selection *selection = walk->selection;
  walk->part = part;
  if (part != JOB_WAITING) /* the latest first; those at `before` itself are left out */
    set_place(walk, selection->before ? selection->before : "infinity", selection->before ? most : least);
  else if (walk->states & JOB_DUE)
    set_place(walk, "-infinity", least);
  else
    set_place(walk, selection->now, most);
}

/* The next part of this queue that the states ask for, or 0. */
static unsigned next_part(const struct walk *walk, unsigned ended) {
  for (size_t i = 0; i < ENDS; i++)
    if (ends[i].state > ended && (walk->states & ends[i].state))
      return ends[i].state;
  return 0;
}

/* Which of the two kinds of jobs are gone through now. All queues are, for one kind, before the other one begins. */
static bool is_ended(const struct walk *walk) {
  return walk->part != 0 && walk->part != JOB_WAITING;
}

/* Finds the next queue after the current one. Returns 1, 0 if there is none, or -1 after printing a message. */
static int find_queue(struct walk *walk, struct transaction *transaction, bool ended) {
  const char *only = walk->selection->queue, *after = walk->queue;
  if (only && after)
    return 0;
  if (only) {
    walk->queue = memory_text(only);
    return 1;
  }
  PGresult *result = transaction_ask(transaction, ended ? SQL_NEXT_ENDED_QUEUE : SQL_NEXT_WAITING_QUEUE, 1, &after);
  if (!result)
    return -1;
  int found = PQntuples(result);
  char *name = found > 0 ? memory_text(PQgetvalue(result, 0, 0)) : NULL;
  PQclear(result);
  free(walk->queue);
  walk->queue = name;
  return found;
}

/* The part is over: begins the next one, or is done. Returns -1 after printing a message. */
static int advance(struct walk *walk, struct transaction *transaction) {
  bool ended = is_ended(walk) || !(walk->states & JOB_WAITING);
  unsigned part = is_ended(walk) ? next_part(walk, walk->part) : 0;
  if (part != 0) {
    begin_part(walk, part);
    return 0;
  }
  int found = find_queue(walk, transaction, ended);
  if (found == 0 && !ended && (walk->states & JOB_ENDED)) { /* the jobs that have ended follow, from the first queue */
    free(walk->queue);
    walk->queue = NULL;
    ended = true;
    found = find_queue(walk, transaction, ended);
  }
  if (found > 0)
    begin_part(walk, ended ? next_part(walk, 0) : JOB_WAITING);
  walk->done = found == 0;
  return found < 0 ? -1 : 0;
}

/* ── reading ── */

static PGresult *read_waiting(const struct walk *walk, struct transaction *transaction, const char *rows) {
  const struct selection *selection = walk->selection;
  char states[80];
  selection_states(walk->states, states, sizeof states);
  const char *until = walk->states & JOB_LATER ? "infinity" : selection->now;
  return transaction_ask(transaction, SQL_FIND_WAITING, 12,
                         (const char *[]){walk->queue, states, selection->pattern, selection->since, selection->before,
                                          selection->meta_key, selection->meta_value, selection->now, walk->time,
                                          walk->id, until, rows});
}

static PGresult *read_ended(const struct walk *walk, struct transaction *transaction, const char *rows) {
  const struct selection *selection = walk->selection;
  const char *letter = "";
  for (size_t i = 0; i < ENDS; i++)
    if (ends[i].state == walk->part)
      letter = ends[i].letter;
  return transaction_ask(transaction, SQL_FIND_ENDED, 9,
                         (const char *[]){walk->queue, letter, selection->pattern, selection->since,
                                          selection->meta_key, selection->meta_value, walk->time, walk->id, rows});
}

/* Takes the ids of selected jobs from the result, whose rows are (id, time, state or whether it is selected, number).
 * Sets `over` if no job is left. */
static int take(struct walk *walk, const PGresult *result, int64_t *ids, bool *over) {
  int count = 0, row = 0;
  for (; row < PQntuples(result) && count < WALK_STEP; row++) {
    const char *state = PQgetvalue(result, row, 2); /* "" for null */
    if (strcmp(state, "running") == 0)
      walk->running++;
    else if (*state && strcmp(state, "f") != 0)
      ids[count++] = strtoll(PQgetvalue(result, row, 0), NULL, 10);
  }
  *over = row == PQntuples(result) && (row == 0 || atoi(PQgetvalue(result, row - 1, 3)) < walk->rows);
  walk->read += row > 0 ? atoi(PQgetvalue(result, row - 1, 3)) : 0;
  if (row > 0)
    set_place(walk, PQgetvalue(result, row - 1, 1), PQgetvalue(result, row - 1, 0));
  return count;
}

int walk_next(struct walk *walk, struct transaction *transaction, int64_t ids[WALK_STEP]) {
  char rows[16];
  bool over;
  if (!walk->time && advance(walk, transaction) != 0)
    return -1;
  if (walk->done)
    return 0;
  snprintf(rows, sizeof rows, "%d", walk->rows);
  int64_t began_ms = clock_ms();
  PGresult *result =
      walk->part == JOB_WAITING ? read_waiting(walk, transaction, rows) : read_ended(walk, transaction, rows);
  if (!result)
    return -1;
  int count = take(walk, result, ids, &over);
  PQclear(result);
  if (count >= FEW || clock_ms() - began_ms >= LONG_MS)
    walk->rows = WALK_STEP;
  else if (!over)
    walk->rows = walk->rows * 4 < ROWS_MOST ? walk->rows * 4 : ROWS_MOST;
  return over && advance(walk, transaction) != 0 ? -1 : count;
}
