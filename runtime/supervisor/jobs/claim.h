#ifndef PGQ_CLAIM_H
#define PGQ_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "frontier.h"
#include "queue.h"
#include "statements.h"

/*
 * The request of a claim: which queues a hold asks, in which order, and how many jobs of each it wants.
 *
 * A claim should bring about as much work as an executor does in 50 ms. While quick queues (several of their jobs fit
 * into that time) have jobs, they share the claim, and one slow queue, another one in each claim, adds one job.
 * Otherwise the claim asks all queues for one job in total.
 *
 * If there are many queues, a claim asks only those that are known to have jobs, and a *look* finds the others of which
 * a job is due. A look locks nothing; the statement is sent together with the claim. If there are so many queues with
 * jobs that their shares would be too small, a claim asks those of them that were not asked for the longest time.
 *
 * Jobs of transactional queues are leased before they run, and so are all jobs of the same claim. While transactional
 * and plain queues both have jobs, claims therefore ask for one kind and the other alternately. Transactional jobs that
 * came together with plain ones go back.
 */

/* The knowledge of a hold about the next job, after a claim that found no job. */
struct idle_info {
  bool complete;   /* the last claim asked all queues that are not shut, and found nothing */
  bool swept;      /* that claim was a sweep; the fields below `denied` are known */
  bool denied;     /* that claim was no sweep because another worker sweeps */
  bool due_locked; /* a job is due, and another session has locked it */
  bool due_shut;   /* a job is due in a queue that backs off, or from which the executor takes no job now */
  int64_t wait_ms; /* until the next job falls due; -1: unknown */
  int64_t ring;    /* the last ring of the doorbell before the claim was sent; 0: none */
};

/* A claim brings about this much data at most; larger data is fetched job by job. */
enum { CLAIM_BYTES = 8 << 20 };

/* With more queues than this, queues without jobs are not asked but looked at. */
enum { CLAIM_ASKED_ALWAYS = 16 };

enum claim_kind {
  CLAIM_ANY,   /* for a free executor: one job of a queue is enough */
  CLAIM_AHEAD, /* while the executor works: asks only queues with short jobs */
};

/* Which kind of queues a claim may ask. */
enum claim_only { CLAIM_ONLY_NONE, CLAIM_ONLY_PLAIN, CLAIM_ONLY_TRANSACTIONAL };

/* Which jobs a claim may bring, by the deaths that they have seen; see deaths.h. */
enum claim_deaths {
  CLAIM_DEATHS_ANY,
  CLAIM_DEATHS_FEW,  /* only jobs that may run beside others */
  CLAIM_DEATHS_MANY, /* only jobs that may not; floors are neither used nor moved */
};

/* A zeroed claim serves no queues. */
struct claim {
  struct queue **queues; /* in the executor's order */
  bool *transactional;   /* of each: as the executor's version of the script has registered it */
  uint32_t queue_count;
  int32_t *capacity; /* for each queue: how many more jobs the executor can take; set before choosing */
  uint32_t first_queue, first_slow_queue; /* where the next claim starts, so that no queue is always last */
  enum claim_deaths deaths;               /* set before choosing */
  enum claim_only only, last_only; /* the kind of this claim; the kind of the last claim that was limited to one */

  /* The request of the claim that is under way. */
  struct queue **asked;
  uint32_t *asked_index; /* in the executor's order */
  int32_t *most;         /* for each asked queue: the most jobs to claim */
  uint32_t asked_count;
  int32_t most_jobs;  /* in total */
  bool complete;      /* all queues that are not shut are asked */
  bool looks;         /* queues that have no jobs, as far as is known, are not asked but looked at */
  bool crowded;       /* more queues have jobs than a claim can ask for a share that is worth it */
  uint64_t turn;      /* the number of the claim, see queue.h */
  bool *swept;        /* for each asked queue: the claim starts at its beginning, not at its floor */
  struct place *ends; /* for each asked queue: where its claim ends; the begin of the queue: at no place */
  bool locks_sweep;   /* the claim is a sweep only if no other worker sweeps: see claim_fleet.h */
  bool denied;        /* and another worker does */
  bool sweeps_all;    /* all asked queues are swept */
  bool sweeps_any;    /* at least one is */
  int64_t sent_ms;
  struct queue **looked; /* the queues that are looked at */
  bool *looked_swept;    /* for each of them: it is read from its beginning */
  uint32_t looked_count;
  bool stale; /* the executor was replaced since: the new one does not know these indexes */

  /* The answer to the last request. */
  bool again; /* a queue was claimed in a region, and may have jobs beyond it */
  bool full;  /* at least one queue gave all the jobs that were asked for: it may have more */
};

void claim_free(struct claim *claim);

/* claim_serve(claim, queues, count): sets the queues of a new executor. The list is copied. */
void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count);

/* claim_choose(claim, kind, most): chooses queues that are not shut, and `most` jobs at most. Returns false if there
 * is no queue to ask. */
bool claim_choose(struct claim *claim, enum claim_kind kind, int32_t most);

/* claim_is_shut(claim, index, now_ms): whether no claim may ask the queue with this index: it is paused or backs off,
 * the executor has no capacity for its jobs, or too many of its outcomes cannot be written. */
bool claim_is_shut(const struct claim *claim, uint32_t index, int64_t now_ms);

/* claim_knows_jobs(queue): whether the queue had jobs when it was last asked or looked at. */
bool claim_knows_jobs(const struct queue *queue);

/* claim_parameters(claim, may_sweep, parameters): adds the first parameters of STATEMENT_CLAIM, which the caller sends
 * now; see claim_fleet_parameters(). `may_sweep`: a queue may be swept if a reservation has told this worker to. */
void claim_parameters(struct claim *claim, bool may_sweep, struct parameters *parameters);

/* claim_take(claim, result, frontier): reads the answer: moves the floors, finds out whether there may be more jobs,
 * and asks for regions. */
void claim_take(struct claim *claim, const PGresult *result, const struct frontier *frontier);

/* claim_look(claim, parameters): adds the parameters of STATEMENT_FIND_DUE, which the caller sends now, after the
 * claim. Returns false, and adds none, if no queue has to be looked at. claim_take_look(claim, result): reads the
 * answer; it follows the one to the claim. */
bool claim_look(struct claim *claim, struct parameters *parameters);
void claim_take_look(struct claim *claim, const PGresult *result);

/* claim_sweep(claim): the next claim of each queue is a sweep, unless the worker claims in regions of it. */
void claim_sweep(const struct claim *claim);

/* claim_forget_floors(claim): the session was lost, and the next one may reach another server: no floor is valid. */
void claim_forget_floors(const struct claim *claim);

/* idle_info_parameters(claim, parameters): adds the parameters of STATEMENT_NEXT_DUE. idle_info_take(claim, result,
 * idle): adds its answer to `idle`. Jobs of paused queues are no concern of an idle worker: it does not ask for them.
 */
void idle_info_parameters(const struct claim *claim, struct parameters *parameters);
void idle_info_take(const struct claim *claim, const PGresult *result, struct idle_info *idle);

#endif
