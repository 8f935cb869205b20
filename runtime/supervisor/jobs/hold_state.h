#ifndef PGQ_HOLD_STATE_H
#define PGQ_HOLD_STATE_H

#include "hold.h"

#include "batch.h"
#include "connection.h"
#include "hold_error.h"
#include "lease.h"
#include "refused.h"
#include "rescue.h"

/*
 * The inside of a hold, for its own files only:
 *
 *     hold.c        its life, its states, and the reports of its connection
 *     hold_claim.c  when it claims, and its steps when no job is due
 *     hold_run.c    the jobs that are with the executor, and their outcomes
 *     hold_lease.c  the jobs that are leased, and run without a transaction
 *     hold_refused.c  the jobs that the database does not let change
 */

/*
 * The state of the hold's connection. Only hold_set_state() writes it. The columns say which fields have jobs in that
 * state: `batch` (claimed, locked by the open transaction), `settling` (outcomes on their way to the server) and `out`
 * (a frame for the executor).
 *
 *                        transaction  batch   settling  out
 */
enum hold_state {
  HOLD_DOWN,          /* no session     -       -         -    */
  HOLD_IDLE,          /* none           -       -         -    */
  HOLD_CLAIMING,      /* open           filled by the answer; `settling` has the batch before, until it is committed */
  HOLD_RUNNING,       /* open           yes     -         -    */
  HOLD_FETCHING,      /* open           yes     -         filled by the answer: the data of one large job */
  HOLD_LEASING,       /* ends           -       yes       the jobs being leased, sent when the leases are committed */
  HOLD_CLOSING,       /* ends           -       yes       -    */
  HOLD_CLOSING_EMPTY, /* ends           -       -         -    : the claim found nothing */
  HOLD_LOCKING,       /* open           -       jobs of `rescue` whose rows are being locked again */
  HOLD_UNDOING,       /* rolls back     -       -         -    : a statement failed */
};

/* The server ends a session whose transaction has been idle for this long beyond the time that the hold allows. */
enum { IDLE_MARGIN_MS = 2000 };

struct hold {
  struct hold *next; /* in the list of all holds: hold_in_hand.c */
  char *name;
  struct hold_start start;
  struct connection *connection;
  struct child *child;
  enum hold_state state;
  bool stopping; /* the hold makes no more claims */

  struct claim claim;
  struct batch batch;
  struct batch settling;
  struct lease_list leased; /* in any state: jobs that run on without a transaction */
  struct rescue rescue;     /* in any state: outcomes that could not be written */
  struct refused refused;   /* in any state: those that cannot be written, although others can */
  struct buffer out;

  int large_job;            /* running, fetching: index of the job whose data was fetched last; -1: none */
  int64_t running_since_ms; /* running, fetching */
  uint32_t waiting_batch;   /* the batch whose jobs were all waiting at the last check; 0: none */
  bool gave_back;           /* the act under way gives back jobs that had not begun */
  int unacknowledged;       /* number of jobs given back that the executor has not acknowledged yet */

  bool rescheduled;      /* since it last rested, it has written that a job runs again */
  bool no_capacity;      /* the last attempt to claim found no capacity in the executor */
  bool sweep_at_gate;    /* while the hold waits at the claim gate: its claim is to be a sweep */
  int64_t ring;          /* the last ring of the doorbell before the last claim was sent; 0: none */
  struct idle_info idle; /* closing_empty, idle: what is known about the next job that falls due */

  bool wrote;  /* a statement of the act under way has written outcomes */
  int ignored; /* what rescue_keep_ignored() has returned for the last act that wrote */
  const char
      *suppressed; /* the event of the writes that the database ignores, while their cause is to be asked; or NULL */
  bool is_ignored; /* the database ignores writes of the hold, and the claim gate knows */
  bool renew;      /* the session is to be replaced: its prepared statements may still contain a rule */
  bool rescuing;   /* the act under way writes outcomes that were kept */
  bool retrying;   /* it writes a job of `refused` */
  bool shuts_gate; /* the claim gate is shut because the database refuses outcomes of this hold */

  int64_t leases_lost; /* number of lost leases since the start, for the log */
  bool loss_logged;    /* the loss of the session was logged, and nothing has been committed since */
  struct hold_error error;
  uv_timer_t check_timer; /* checks running jobs, and whether the executor has capacity */
  unsigned checks;
};

/* ── hold_refused.c ── */

/* hold_forget_ignored(hold): the database no longer ignores writes of the hold, or there are none any more. */
void hold_forget_ignored(struct hold *hold);

/* hold_ask_suppressor(hold): inside of a transaction: if the database ignores writes of the hold, asks for the cause.
 * hold_log_suppressor(hold, result): the answer. */
void hold_ask_suppressor(struct hold *hold);
void hold_log_suppressor(struct hold *hold, const PGresult *result);

/* hold_keep_ignored(hold): an act that wrote is committed: keeps the jobs of which no row has changed. Sets
 * hold->ignored. */
void hold_keep_ignored(struct hold *hold);

/* hold_refuse(hold): the only job that was to be settled is refused: it fails instead, or waits. hold_refuse_leases():
 * in state leasing: the leases are refused. */
void hold_refuse(struct hold *hold);
void hold_refuse_leases(struct hold *hold);

/* hold_take_written(hold): an act is committed: notes that the queues of its jobs can be written. Returns whether
 * claims may ask for more than before. */
bool hold_take_written(struct hold *hold);

/* hold_split_from_refused_leases(hold): jobs that are to be settled under a lease that could not be written are
 * rescued instead: their rows are as they were claimed. */
void hold_split_from_refused_leases(struct hold *hold);

/* ── hold_lease.c ── */

/* hold_lease_has_begun(hold, lease): whether the executor has begun the leased job. */
bool hold_lease_has_begun(const struct hold *hold, const struct lease *lease);

/* ── hold.c ── */

/* hold_set_state(hold, state): changes the state. A change that the table in hold.c does not list is a fault of the
 * program: it is logged, and the supervisor aborts; the server then unlocks the hold's jobs. */
void hold_set_state(struct hold *hold, enum hold_state state);

/* hold_has_batch(hold): whether the hold has jobs of an open transaction (state running or fetching). */
bool hold_has_batch(const struct hold *hold);

/* hold_settle(hold): sends all known outcomes and COMMIT in the open transaction, and then the next claim if the hold
 * may claim. */
void hold_settle(struct hold *hold);

/* hold_proceed(hold): if the hold is idle, takes the next step: rescue, settle, claim or rest. */
void hold_proceed(struct hold *hold);

/* ── hold_claim.c ── */

/* hold_may_claim(hold): chooses the queues of the next claim. Returns false if there is no queue to ask, if the
 * executor has no capacity, or if the hold has to wait at the claim gate. */
bool hold_may_claim(struct hold *hold);

/* hold_send_claim(hold, sweep): sends BEGIN and the claim that hold_may_claim() has chosen. */
void hold_send_claim(struct hold *hold, bool sweep);

/* hold_take_sweep_lock(hold, result): the answer to whether the claim may be a sweep. */
void hold_take_sweep_lock(struct hold *hold, const PGresult *result);

/* hold_take_lock(hold): the claim has locked the table. */
void hold_take_lock(struct hold *hold);

/* hold_take_claim(hold, result): the claim's rows have come. hold_end_claim(hold): the claim's act has ended. */
void hold_take_claim(struct hold *hold, const PGresult *result);
void hold_end_claim(struct hold *hold);

/* hold_recall_paused(hold): jobs of the last claim were sent to the executor: those of paused queues come back. */
void hold_recall_paused(struct hold *hold);

/* hold_add_claim_cost(hold, swept): the claim or STATEMENT_NEXT_DUE was answered; if it swept, the time that it took
 * counts towards the limit on sweeps. */
void hold_add_claim_cost(struct hold *hold, bool swept);

/* hold_rest(hold): the hold has nothing to do, and tells the owner what it knows about the next job. */
void hold_rest(struct hold *hold);

/* ── hold_run.c ── */

/* hold_dispatch(hold): sends the jobs in `out` to the executor, or prepares leases for them first. */
void hold_dispatch(struct hold *hold);

/* hold_take_data(hold, result): the data of the large job has come. */
void hold_take_data(struct hold *hold, const PGresult *result);

/* hold_go_on(hold): in state running, settles once all outcomes are known, and fetches the next large job's data when
 * the executor is free for it. In state idle, does the same as hold_proceed(). */
void hold_go_on(struct hold *hold);

/* hold_split(hold): the transaction must end: jobs that have begun become leased, the others go back. The settle that
 * follows writes both. */
void hold_split(struct hold *hold);

/* hold_start_checks(hold): starts the timer that checks, every few milliseconds, running jobs and whether the executor
 * has capacity. */
void hold_start_checks(struct hold *hold);

/* ── hold_in_hand.c ── */

/* hold_register(hold), hold_unregister(hold): the hold is new; its memory is about to be freed. */
void hold_register(struct hold *hold);
void hold_unregister(struct hold *hold);

/*
 * hold_spare_jobs_in_hand(hold): of the jobs that a claim has brought, those do not run that this worker has already.
 * After the machine was suspended, or the database's clock has jumped, the leases of running jobs have ended: they are
 * extended. After a session was lost, the outcome of a job may not be written yet: the rescue gets the row.
 */
void hold_spare_jobs_in_hand(struct hold *hold);

/* hold_add_unwritten(parameters): adds the ids of the jobs that are not written yet, or cannot be written, an array.
 * Claims must not lock their rows: the hold that has the jobs needs the locks. */
void hold_add_unwritten(struct parameters *parameters);

/* ── hold_lease.c ── */

/* hold_token(hold): the first token of the batch's leases. */
int64_t hold_token(const struct hold *hold);

/* hold_may_settle_leased(hold): whether outcomes of leased jobs may be written now. They may not while outcomes are
 * settled one by one, nor while a lease could not be written, because another session has locked the row.
 * hold_has_ended_leased(hold): whether there are outcomes that may. */
bool hold_may_settle_leased(const struct hold *hold);
bool hold_has_ended_leased(const struct hold *hold);

/* hold_send_leased(hold): the leases of the jobs in `out` are committed: the jobs go to the executor, or go back if it
 * can no longer run them. */
void hold_send_leased(struct hold *hold);

/* hold_forget_ignored_leases(hold): in state leasing: leases were committed, but perhaps not those of all jobs. If one
 * is missing, none of the jobs is sent; those that are leased go back. */
void hold_forget_ignored_leases(struct hold *hold);

/* hold_keep_for_rescue(hold): the act failed or its session is lost: outcomes that were not written are kept, and jobs
 * that run are to be leased once their rows can be locked again. */
void hold_keep_for_rescue(struct hold *hold);

/* hold_give_back_unbegun_leased(hold, most_ms): leased jobs that have not begun within `most_ms` go back. */
void hold_give_back_unbegun_leased(struct hold *hold, int64_t most_ms);

/* hold_recall_leased(hold, queue): leased jobs of the queue that have not begun come back. */
void hold_recall_leased(struct hold *hold, const struct queue *queue);

/* hold_kill_stuck_lost(hold): kills the executor when the handler of a lost or cancelled lease does not end. */
void hold_kill_stuck_lost(struct hold *hold);

#endif
