#ifndef PGQ_BULK_H
#define PGQ_BULK_H

#include "selection.h"

/* What a command does to jobs. */
struct bulk_verb {
  const char *command; /* its name: "retry" */
  const char *usage;   /* "retry [options] …" */
  const char *done;    /* for messages: "retried" */
  const char *sql;     /* changes the jobs of $1 int8[]; returns the columns of enum change_column */
  bool keeps_waits;    /* $2 is whether to keep the retry waits */
  unsigned states;     /* of enum job_state: the jobs that are meant without --state */
  unsigned may_states; /* the ones that it can change */
  const char *may_not; /* what to do about jobs in other states, as the end of a sentence */
  const char *needs;   /* see struct transaction */
};

/* What the statement of a verb returns. The statements of changes by ids may end after CHANGE_CHANGED. */
enum change_column {
  CHANGE_LOCKED,      /* how many rows it has locked */
  CHANGE_CHANGED,     /* how many of these it has changed */
  CHANGE_OTHERS,      /* the ids of the jobs that it has not locked, an array; null: it has locked all */
  CHANGE_UNFIT,       /* retry: how many of the locked rows the checks of the table would not take */
  CHANGE_FIRST_UNFIT, /* the least id of these, or null */
};

/* What to do about jobs that are unfit, as the end of a sentence. */
#define CHANGE_UNFIT_ADVICE                                                                                            \
  "its retry waits are more or longer than the table takes, or its queue has no name; without --keep-waits a retry "   \
  "sets the default waits, and `pgq-lua edit` sets others"

/*
 * bulk_run(verb, options): does it to all jobs of the selection that the options make, in transactions of WALK_STEP
 * jobs each. Asks first on a terminal. After SIGINT it ends with the step that is under way. Prints what was done.
 * Returns the exit status: 0; 1 if jobs were left out because they run, are locked, have changed meanwhile or do not
 * fit, after an interruption or a failure; 2 for wrong usage.
 */
int bulk_run(const struct bulk_verb *verb, const struct options *options);

#endif
