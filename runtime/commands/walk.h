#ifndef PGQ_WALK_H
#define PGQ_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "selection.h"
#include "transaction.h"

/*
 * Goes through the jobs of a selection step by step, in many short transactions: the queues in the order of their
 * names; in each first the jobs that have not ended, then those that have. Each statement reads a limited number of
 * rows. A job that the command changes is not met again. The cost is that of the jobs in the states of the selection.
 */
struct walk {
  const struct selection *selection; /* after selection_resolve() */
  unsigned states;                   /* of enum job_state; not JOB_RUNNING */
  bool done;
  int64_t running; /* running jobs that meet the other conditions */
  int64_t read;    /* how many jobs were read so far */

  /* private */
  unsigned part; /* JOB_WAITING, or one of the states of JOB_ENDED; 0: none yet */
  char *queue;
  char *time; /* the place behind which the next step reads */
  char id[24];
  int rows; /* how many rows the next step reads: more than WALK_STEP while few of them are selected, and as long as a
               step takes a fraction of a second */
};

/* The most jobs of one step. */
enum { WALK_STEP = 1000 };

/* walk_begin(walk, selection, states): begins at the first job of these states. The selection must outlive the walk. */
void walk_begin(struct walk *walk, const struct selection *selection, unsigned states);

/*
 * walk_next(walk, transaction, ids): reads on in the transaction, which goes on, and writes the ids of the jobs that
 * are selected, at most WALK_STEP. Returns how many these are, which may be 0 although the walk is not done; or -1
 * after printing a message.
 */
int walk_next(struct walk *walk, struct transaction *transaction, int64_t ids[WALK_STEP])
    __attribute__((warn_unused_result));

void walk_end(struct walk *walk);

#endif
