#ifndef PGQ_HOLD_H
#define PGQ_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "claim.h"
#include "claim_gate.h"
#include "connection.h"
#include "counts.h"
#include "history.h"
#include "options.h"
#include "queue.h"
#include "sweep.h"

/*
 * A hold: one connection whose open transaction locks the jobs claimed in it while their handlers run in the executor.
 * A claim writes nothing. Once all outcomes are known they are written and committed, and the next claim goes out in
 * the same round trip.
 *
 *     down ─► idle ─► claiming ─► running ─► claiming (settle, commit, begin, claim) ─► running …
 *              ▲          └─ nothing due ─► closing_empty (ask what falls due next, commit) ─┐
 *              └─────────────────────────────────────────────────────────────────────────────┘
 *
 * A transaction lasts no longer than the hold limit. Then outcomes are settled, jobs that have not begun go back, and
 * jobs that still run become leased (lease.h) until their outcome is known. When all handlers of a hold wait, this
 * happens within a few milliseconds, so that the hold is free for other jobs.
 *
 * When a statement fails or the session is lost, outcomes may remain unwritten. The hold then rescues them: it locks
 * the rows again, except rows that another session has changed or locked, and settles these jobs.
 */
struct hold;

struct hold_events {
  /* Returns how many more jobs of this hold the executor can take: 0, a number, or INT32_MAX for no limit. Sets
   * of_queues[] to the capacity of each queue, in the executor's order. */
  int32_t (*capacity)(void *owner, const struct hold *hold, int32_t *of_queues);
  /* Which jobs the next claim of the hold may bring. */
  enum claim_deaths (*claims_deaths)(void *owner, const struct hold *hold);
  /* A claim brought jobs that may not run beside others. Returns whether they may run now; otherwise they go back. */
  bool (*may_run_alone)(void *owner, const struct hold *hold);
  /* Jobs that may not run beside others went back, because the hold runs other jobs now. */
  void (*turned_away)(void *owner, const struct hold *hold);
  /* The hold limit is over and a handler keeps the executor busy: jobs of other holds that wait for the executor should
   * go back. */
  void (*blocked)(void *owner, const struct hold *hold);
  /* A claim brought jobs. */
  void (*found)(void *owner, const struct hold *hold);
  /* There may be jobs for other holds: a claim brought as many as it asked for, or some went back. */
  void (*more)(void *owner, const struct hold *hold);
  /* The hold found nothing, or may not claim anything: it sleeps until hold_wake(). */
  void (*slept)(void *owner, const struct hold *hold, const struct idle_info *idle);
  /* The hold has written that jobs run again. Called before slept(). */
  void (*rescheduled)(void *owner);
  /* A handler asked for backoff: jobs of the queue that have not begun should come back. */
  void (*backed_off)(void *owner, struct queue *queue);
  /* A job or a statement has ended: hold_is_at_rest() may have become true. */
  void (*rested)(void *owner, const struct hold *hold);
};

/* The arguments of hold_new(). Everything it points to must outlive the hold. */
struct hold_start {
  uv_loop_t *loop;
  const struct options *options;
  struct child *child;
  uint32_t lane;       /* number of the hold among the executor's holds, from 0 */
  bool ahead;          /* the hold claims only ahead of time, while the executor works on another hold's jobs */
  struct sweep *sweep; /* shared by all holds of the worker */
  struct session_mode *mode;
  struct claim_gate *gate;
  const struct frontier *frontier; /* shared by all holds of the worker */
  const struct history *history;   /* shared by all holds of the worker */
  struct counts *counts;           /* shared by all holds of the worker */
  const char *version;             /* of the script that the executor runs; may change */
  const struct hold_events *events;
  void *owner;
};

/* hold_new(name, start): makes a hold that is down. The name appears in log lines, and is copied. */
struct hold *hold_new(const char *name, const struct hold_start *start);

/* hold_serve(hold, queues, count): sets the queues that the executor registered, in its order. The list is copied. */
void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count);

/* hold_open(hold): connects; once connected the hold claims. */
void hold_open(struct hold *hold);

/*
 * hold_wake(hold, sweep): claims if the hold sleeps, its executor has capacity, and a queue is not shut. Returns
 * whether the hold claims, or waits at the claim gate to do so. With `sweep`, the claim starts from the beginning of
 * the queues instead of their floors.
 */
bool hold_wake(struct hold *hold, bool sweep);

/* hold_close(hold): closes the connection if the hold sleeps. Returns whether the connection is closed now. */
bool hold_close(struct hold *hold);

/* hold_claim_through_gate(hold): the claim gate is open for the hold, which waited there. Returns whether it claims. */
bool hold_claim_through_gate(struct hold *hold);

/* hold_claim_ahead(hold): claims with a hold that claims ahead. If a queue can be asked and the hold is not connected,
 * it connects first. */
void hold_claim_ahead(struct hold *hold);

/* hold_outcome(hold, outcome): the executor reports how a job ended. Returns false for an outcome that no job can have;
 * see struct child_events. hold_outcomes_end(hold): all outcomes that came together have been reported. */
bool hold_outcome(struct hold *hold, const struct job_outcome *outcome);
void hold_outcomes_end(struct hold *hold);

/*
 * hold_child_died(hold, death): the executor died. The culprit fails, with the death's cause as its error; the other
 * jobs go back. Without a culprit, the death is counted for the jobs that had begun; see deaths.h. If the death has no
 * cause, all jobs go back unchanged.
 */
void hold_child_died(struct hold *hold, const struct child_death *death);

/* hold_add_in_flight(hold): adds its jobs that have not ended to queue->in_flight of their queues. */
void hold_add_in_flight(const struct hold *hold);

/* hold_recall(hold, queue): jobs of the queue (NULL: of all queues) that have not begun go back. */
void hold_recall(struct hold *hold, const struct queue *queue);

/* hold_give_back(hold): another hold's job keeps the executor busy: all jobs that have not begun go back. */
void hold_give_back(struct hold *hold);

/* hold_stop(hold): the hold makes no more claims. Jobs that have not begun go back; running jobs are settled when they
 * end. */
void hold_stop(struct hold *hold);

/*
 * hold_leases(hold, ids, tokens, lasts_ms): lists the leases to extend, each with the time it should last from now;
 * returns how many, at most hold_lease_count(hold). A transactional job's lease is only looked up, not extended (0 ms):
 * the handler's transaction may have locked the row, or may fail if the row changes.
 */
int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int64_t *lasts_ms);
int hold_lease_count(const struct hold *hold);

/* hold_has_lease(hold, id): whether the hold has leased that job, and it still runs. */
bool hold_has_lease(const struct hold *hold, int64_t id);

/*
 * hold_lease_lost(hold, id): the job's lease is no longer this worker's. If the job still runs here, pgq.cancelled is
 * raised in its handler; if the handler does not end soon, its executor is killed. hold_cancel(hold, id): the same,
 * because the job was cancelled. Both do nothing if the hold does not have the job.
 */
void hold_lease_lost(struct hold *hold, int64_t id);
void hold_cancel(struct hold *hold, int64_t id);

/* hold_has_leased(hold): whether a leased job of the hold runs. hold_count_leased(hold): how many leased jobs run. */
bool hold_has_leased(const struct hold *hold);
int hold_count_leased(const struct hold *hold);

/* hold_count_begun(hold): how many jobs of the hold have begun and not ended. */
int hold_count_begun(const struct hold *hold);

/* hold_find(hold, id): the job with that id, which has not ended; NULL: the hold has none. hold_oldest_leased(hold,
 * since_ms): of the leased jobs that run, the one that was leased first, at *since_ms of clock_ms(); NULL: there is
 * none. Both are valid until the loop's next turn. */
const struct job *hold_find(const struct hold *hold, int64_t id);
const struct job *hold_oldest_leased(const struct hold *hold, int64_t *since_ms);

/* hold_count_jobs(hold, queue): how many jobs of the queue are with the executor. hold_is_holding(hold): whether the
 * hold has jobs in an open transaction. */
int hold_count_jobs(const struct hold *hold, const struct queue *queue);
bool hold_is_holding(const struct hold *hold);

/* hold_may_run(hold, id): whether the executor has a job of the hold with that id, which has not ended. */
bool hold_may_run(const struct hold *hold, int64_t id);

/* hold_has_unacknowledged(hold): whether the executor must still acknowledge jobs that went back before they began,
 * because it was busy. Further jobs would go back, too. */
bool hold_has_unacknowledged(const struct hold *hold);

/* hold_count_running(hold, counts, queue_count): adds the jobs that are with the executor to counts[], by queue in the
 * executor's order. */
void hold_count_running(const struct hold *hold, int32_t *counts, uint32_t queue_count);

/* hold_is_at_rest(hold): whether the hold has no jobs and no statement under way. hold_is_asleep(hold): whether it is
 * also connected and does not wait at the claim gate. */
bool hold_is_at_rest(const struct hold *hold);
bool hold_is_asleep(const struct hold *hold);

/* hold_is_up(hold): whether the hold has a session. */
bool hold_is_up(const struct hold *hold);

/* hold_free(hold): closes the connection at once; the server then unlocks the claimed jobs. The memory is freed in the
 * loop's next turn. NULL is allowed. */
void hold_free(struct hold *hold);

#endif
