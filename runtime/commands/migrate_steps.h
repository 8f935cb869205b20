#ifndef PGQ_MIGRATE_STEPS_H
#define PGQ_MIGRATE_STEPS_H

#include <libpq-fe.h>
#include <stdbool.h>

enum { STEP_TEXT = 512, STEPS_LEFT_OUT_MOST = 8 };

/* One step that the tables need; see sql/migrate/next_step.sql. Owns `statement`; step_free() frees it. */
struct step {
  char name[STEP_TEXT]; /* as a line for the user, such as "building the index pgq_jobs_lease" */
  char kind[16];
  char table[64];  /* "": the step locks no table */
  char *statement; /* NULL: the step runs files */
  bool breaks;     /* workers of an older version cannot work afterwards */
};

/* Steps that this run leaves out, because it has done them, or they cannot be done with the rows that are there. Starts
 * zeroed. */
struct steps_left_out {
  char names[STEPS_LEFT_OUT_MOST][STEP_TEXT];
  int count;
};

/*
 * step_find(conn, left_out, step): looks which step is needed first. Returns 1 and fills `step`, 0 if the tables are up
 * to date, or -1 after printing why it could not look. Locks nothing and writes nothing.
 */
int step_find(PGconn *conn, const struct steps_left_out *left_out, struct step *step);

/* step_run(conn, step, left_out): does the step. If other sessions use the table, tries again until it succeeds, and
 * tells the user. Returns 0, or -1 after printing why not; then the step has changed nothing. */
int step_run(PGconn *conn, const struct step *step, struct steps_left_out *left_out);

void step_free(struct step *step);

/* step_comments(conn): writes the comments that differ. Returns 0, or -1 after printing a message. */
int step_comments(PGconn *conn);

/* step_begin(conn, read_only, lock_timeout_ms): begins a transaction with the settings of a migration. Returns 0, or -1
 * after printing a message. step_ask(): runs one statement with these parameters; returns its result, or NULL after
 * printing a message that begins with `what`. */
int step_begin(PGconn *conn, bool read_only, int lock_timeout_ms);
PGresult *step_ask(PGconn *conn, const char *what, const char *sql, int count, const char *const *values);

#endif
