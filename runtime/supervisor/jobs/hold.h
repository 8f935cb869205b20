#ifndef PGQ_HOLD_H
#define PGQ_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "claim.h"
#include "claim_gate.h"
#include "connection.h"
#include "options.h"
#include "queue.h"
#include "sweep.h"

/*
 * A hold: one connection whose open transaction holds the locks of the jobs claimed in it, while their handlers run in
 * the executor. Claiming writes nothing; the outcomes are written, and the transaction committed, when all are known.
 * The next claim goes out in the same round trip.
 *
 *     down ─► idle ─► claiming ─► running ─► claiming (settle, commit, begin, claim) ─► running …
 *              ▲          └─ nothing due ─► closing (look, commit) ─┐
 *              └────────────────────────────────────────────────────┘
 *
 * No hold lives longer than the hold limit: then what is done is settled, jobs not begun go back, and what still runs
 * becomes leased (lease.h) until its outcome is there. When all that a hold waits for is handlers that wait, this
 * happens within a few milliseconds: the hold is free for other jobs then.
 *
 * An act that failed, or whose session was lost, leaves outcomes that nobody has written: they are rescued, by locking
 * again those of their rows that are as they were, and settling these.
 */
struct hold;

struct hold_events {
  /* For how many more jobs of this hold the executor has room: none (0), one, or as many as a claim brings; sets how
   * many of each queue, in the executor's order. */
  int32_t (*room)(void *owner, const struct hold *hold, int32_t *of_queues);
  /* Suspects are here, which are to run with nobody else. Whether they may now; else they go back. */
  bool (*alone)(void *owner, const struct hold *hold);
  /* How many suspects may run together. */
  int (*together)(void *owner);
  /* The time of the hold is up, and a job of it still runs: what waits behind it in the executor is to go back. */
  void (*blocked)(void *owner, const struct hold *hold);
  /* A claim brought jobs. */
  void (*found)(void *owner, const struct hold *hold);
  /* There may be jobs for other holds: a claim brought as many as it asked for, or some went back. */
  void (*more)(void *owner, const struct hold *hold);
  /* Nothing was found (or nothing may be claimed): the hold sleeps until hold_wake(). */
  void (*slept)(void *owner, const struct hold *hold, const struct hold_look *look);
  /* A handler asked for backoff: jobs of the queue that have not started are to come back. */
  void (*backed_off)(void *owner, struct queue *queue);
  /* Something ended: hold_is_at_rest() may have become true. */
  void (*rested)(void *owner, const struct hold *hold);
};

/* What a hold is made with: all of it must outlive the hold. */
struct hold_start {
  uv_loop_t *loop;
  const struct options *options;
  struct child *child;
  uint32_t lane;       /* which of the executor's holds it is */
  bool ahead;          /* it claims only ahead of time, for an executor that is at work, and never looks */
  struct sweep *sweep; /* of the worker */
  struct session_mode *mode;
  struct claim_gate *gate;
  const struct hold_events *events;
  void *owner;
};

/* hold_new(name, start): the name is for log lines, and copied. */
struct hold *hold_new(const char *name, const struct hold_start *start);

/* hold_serve(hold, queues, count): the queues that its executor registered, in the executor's order; copied. */
void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count);

/* hold_open(hold): connects; once connected it claims. */
void hold_open(struct hold *hold);

/*
 * hold_wake(hold, sweep): claims, if it sleeps and its executor has room and a queue is not paused. Whether it did, or
 * will when its turn comes. With `sweep`, from the beginning of the queues; a hold sleeps in earnest only after that
 * found nothing.
 */
bool hold_wake(struct hold *hold, bool sweep);

/* hold_close(hold): closes its connection, if it sleeps. Whether it is closed. */
bool hold_close(struct hold *hold);

/* hold_claim_through_gate(hold): it waited for its turn to claim (turn.h), which has come. Whether it claims. */
bool hold_claim_through_gate(struct hold *hold);

/* hold_claim_ahead(hold): the same for a hold that claims ahead; it is opened when there is a queue for it. */
void hold_claim_ahead(struct hold *hold);

/* hold_runs_alone(hold): the jobs of the hold are suspects, beside which nothing may run. */
bool hold_runs_alone(const struct hold *hold);

/* hold_be_careful(hold, until_ms): up to that clock_ms(), one job at a time is claimed, and leased before it runs. */
void hold_be_careful(struct hold *hold, int64_t until_ms);

/* What the executor said; see struct child_events. */
bool hold_outcome(struct hold *hold, const struct job_outcome *outcome);
void hold_outcomes_end(struct hold *hold);

/*
 * hold_child_died(hold, death): the culprit fails with the cause, as a whole sentence; the others go back. Without a
 * culprit, those that were in flight become suspects, which run alone next time; without a cause, all just go back.
 */
void hold_child_died(struct hold *hold, const struct child_death *death);

/* hold_recall(hold, queue): jobs of the queue (NULL: of all) that have not started go back. */
void hold_recall(struct hold *hold, const struct queue *queue);

/* hold_give_back(hold): the executor is busy with another hold's job, for long: all that has not begun goes back. */
void hold_give_back(struct hold *hold);

/* hold_stop(hold): no more claims; jobs not started go back, running ones are settled when they end. */
void hold_stop(struct hold *hold);

/* hold_leases(hold, ids, tokens, lasts): the leases to extend, and for how many ms; returns how many were written, at
 * most hold_lease_count(hold). Those of transactional jobs are not extended (0 ms): a handler's transaction may have
 * locked the row, or may not abide that it changes. */
int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int64_t *lasts);
int hold_lease_count(const struct hold *hold);

/* hold_lease_lost(hold, id): somebody else has the job now. If it still runs here, pgq.cancelled is raised in its
 * handler, and if that does not end it, its executor is killed shortly. hold_cancel(hold, id): the same, because
 * somebody cancelled the job. */
void hold_lease_lost(struct hold *hold, int64_t id);
void hold_cancel(struct hold *hold, int64_t id);

/* hold_has_leased(hold): a job of it that is leased runs in the executor. */
bool hold_has_leased(const struct hold *hold);

/* hold_count_leased(hold): how many of its jobs are leased and have not ended. */
int hold_count_leased(const struct hold *hold);

/* hold_count_begun(hold): how many of its jobs have begun and not ended. */
int hold_count_begun(const struct hold *hold);

/* hold_is_owed(hold): the executor has been kept so busy that jobs went back before they began, and it has not come to
 * where they were yet. More would fare no better. */
bool hold_is_owed(const struct hold *hold);

/* hold_count_running(hold, counts): adds its jobs that are with the executor to those of their queues, in the
 * executor's order. */
void hold_count_running(const struct hold *hold, int32_t *counts, uint32_t queue_count);

/* hold_is_at_rest(hold): no jobs here and nothing under way. hold_is_asleep(hold): connected, and nothing was due. */
bool hold_is_at_rest(const struct hold *hold);
bool hold_is_asleep(const struct hold *hold);

/* hold_free(hold): closes the connection at once; the server gives back what it held. NULL is allowed. */
void hold_free(struct hold *hold);

#endif
