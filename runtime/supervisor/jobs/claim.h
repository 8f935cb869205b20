#ifndef PGQ_CLAIM_H
#define PGQ_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"
#include "statements.h"

/*
 * What a hold asks for: which queues, in whose turn, how many jobs.
 *
 * A claim is to bring about as much work as an executor does in 50 ms. While quick queues (several of their jobs fit in
 * that) have jobs, they share a claim between them, and one of the slow queues, in turn, adds a job. Else all queues
 * are asked, for one job altogether.
 *
 * Jobs of transactional queues are leased before they run, and with them all that one claim brings. So while both kinds
 * of queues have jobs, they are asked in turn; and when others came along with such jobs, these go back.
 */

/* What was seen before going to sleep. */
struct hold_look {
  bool complete;   /* the claim before asked all queues that are not paused, and found nothing */
  bool swept;      /* it was a sweep, and the rest is known */
  bool due_locked; /* a job is due that somebody holds */
  bool due_paused; /* a job is due in a queue that is paused here */
  int64_t wait_ms; /* until the next job falls due; -1: none is known */
};

/* Which claim. */
enum claim_kind {
  CLAIM_ANY,   /* for an executor that is free: one job of a queue is enough */
  CLAIM_AHEAD, /* while the executor is at work: only quick queues, whose jobs do not wait long here */
};

/* Which queues may be asked. */
enum claim_only { ONLY_ALL, ONLY_PLAIN, ONLY_TRANSACTIONAL };

/* Zeroed: nothing is served. */
struct claim {
  struct queue **queues; /* in the executor's order */
  uint32_t queue_count;
  int32_t *room;              /* of each: for how many more of its jobs the executor has room; set by whoever chooses */
  uint32_t turn, slow_turn;   /* the queue that is asked first: they take turns */
  enum claim_only only, last; /* this time; and when it was the last time that not all might be asked */
  /* What the claim under way asks for. */
  struct queue **asked;
  uint32_t *asked_index; /* in the executor's order */
  int32_t *most;         /* of each */
  uint32_t asked_count;
  int32_t most_jobs; /* altogether */
  bool complete;     /* all queues that are not paused */
  bool *low;         /* of each: from the beginning, not from its floor */
  bool sweep;        /* all of them; `low_one`: one at least */
  bool low_one;
  int64_t sent_ms;
  bool stale; /* the executor has changed since: it does not know these indexes */
  /* What it brought. */
  bool full; /* as much as was asked for, of one queue at least: there may be more */
};

void claim_free(struct claim *claim);

/* claim_serve(claim, queues, count): the queues of a new executor; copied. */
void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count);

/* claim_choose(claim, kind, most): which queues, of those that are not paused, and how many jobs, at most `most`.
 * False when there are none to ask. */
bool claim_choose(struct claim *claim, enum claim_kind kind, int32_t most);

/* claim_parameters(claim, parameters): of STATEMENT_CLAIM, which is to be sent now. */
void claim_parameters(struct claim *claim, struct parameters *parameters);

/* claim_take(claim, result): what came back: sets the floors, and finds whether there may be more. */
void claim_take(struct claim *claim, const PGresult *result);

/* claim_sweep(claim): all queues are to be swept. */
void claim_sweep(const struct claim *claim);

/* claim_forget_floors(claim): the session was lost, and who knows where the next one leads: all is looked at again. */
void claim_forget_floors(const struct claim *claim);

/* look_parameters(claim, parameters): of STATEMENT_LOOK. look_take(claim, result, look): what it found. */
void look_parameters(const struct claim *claim, struct parameters *parameters);
void look_take(const struct claim *claim, const PGresult *result, struct hold_look *look);

#endif
