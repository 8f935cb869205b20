#ifndef PGQ_CLAIM_H
#define PGQ_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"
#include "statements.h"

/* What a hold asks for: which queues, in whose turn, how many jobs. */

/* What was seen before going to sleep. */
struct hold_look {
  bool after_claim; /* a claim from all queues came before, and found nothing; else some are paused */
  bool due_locked;  /* a job is due that somebody holds */
  bool due_paused;  /* a job is due in a queue that is paused here */
  int64_t wait_ms;  /* until the next job falls due; -1: none is known */
};

/* Zeroed: nothing is served. */
struct claim {
  struct queue **queues; /* in the executor's order */
  uint32_t queue_count;
  uint32_t turn; /* the queue that is asked first: they take turns */
  /* What the claim under way asks for. */
  struct queue **asked;
  uint32_t *asked_index; /* in the executor's order */
  uint32_t asked_count;
  bool stale; /* the executor has changed since: it does not know these indexes */
};

void claim_free(struct claim *claim);

/* claim_serve(claim, queues, count): the queues of a new executor; copied. */
void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count);

/* claim_choose(claim): which queues are not paused, beginning with the one whose turn it is. Whether there are any. */
bool claim_choose(struct claim *claim);

/* claim_parameters(claim, most, parameters): of STATEMENT_CLAIM; at most `most` jobs altogether. */
void claim_parameters(const struct claim *claim, int32_t most, struct parameters *parameters);

/* look_parameters(claim, parameters): of STATEMENT_LOOK. look_take(claim, result): what it found. */
void look_parameters(const struct claim *claim, struct parameters *parameters);
struct hold_look look_take(const struct claim *claim, const PGresult *result);

#endif
