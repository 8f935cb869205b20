#ifndef PGQ_SELECTION_H
#define PGQ_SELECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "transaction.h"

/* The states of a job; it is in exactly one of them. One bit each. */
enum job_state {
  JOB_DUE = 1,        /* ran_at is null, it does not run, and run_after has passed; jobs that a worker has claimed a
                         moment ago look like this, too */
  JOB_LATER = 2,      /* ran_at is null, it does not run, and run_after is to come */
  JOB_RUNNING = 4,    /* leased, and the lease has not expired */
  JOB_FAILED = 8,     /* ran_at and error are set */
  JOB_COMPLETED = 16, /* ran_at is set, error is null */
  JOB_CANCELLED = 32, /* ran_at and cancelled are set */
  JOB_WAITING = JOB_DUE | JOB_LATER,
  JOB_ENDED = JOB_FAILED | JOB_COMPLETED | JOB_CANCELLED,
};

/*
 * Which jobs a command is about: the options --queue, --state, --error, --since, --before, --meta and --all. Each field
 * is NULL or 0 if its option was not given. The texts are parameters of statements, in text form.
 */
struct selection {
  const char *queue;
  unsigned states; /* bits of enum job_state */
  char *pattern;   /* for LIKE */
  char *since;     /* timestamptz: jobs from this time on; and up to, but without, this time: */
  char *before;
  char *now; /* timestamptz: when the command began. After selection_resolve() */
  char *meta_key;
  char *meta_value; /* meta ->> meta_key must be this text */
  int64_t limit;    /* --limit */
  bool any;         /* at least one of the options that select jobs was given, --all excepted */
  bool all;         /* --all */
  const struct options *options;
};

/*
 * selection_read(selection, options, command): reads the options. Returns 0, and selection_free() frees the texts; or
 * -1 after printing a message for wrong usage, as "pgq-lua COMMAND: …".
 */
int selection_read(struct selection *selection, const struct options *options, const char *command)
    __attribute__((warn_unused_result));

/*
 * selection_resolve(selection, transaction): has the database read --since and --before, relative to its own clock, and
 * sets the fields since, before and now; they then stay the same for the whole command. There must be a transaction;
 * it goes on. Returns 0, or -1 after printing a message; transaction->refused is then set if an option has a value that
 * is no time.
 */
int selection_resolve(struct selection *selection, struct transaction *transaction) __attribute__((warn_unused_result));

/* selection_states(states, text, size): writes the states as an array of texts for a statement, such as {due,later}. */
void selection_states(unsigned states, char *text, size_t size);

/* selection_describe(selection): the options as a user would write them, such as "--queue mail --state failed". The
 * caller frees the text. */
char *selection_describe(const struct selection *selection);

/* selection_explain_none(selection, command): no job was found: if the pattern of --error may be meant otherwise, says
 * on stderr that with % or _ in it, it must match the whole error. */
void selection_explain_none(const struct selection *selection, const char *command);

void selection_free(struct selection *selection);

#endif
