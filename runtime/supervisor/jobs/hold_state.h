#ifndef PGQ_HOLD_STATE_H
#define PGQ_HOLD_STATE_H

#include "hold.h"

#include "batch.h"
#include "connection.h"
#include "hold_error.h"
#include "lease.h"
#include "rescue.h"

/*
 * What a hold is made of: for its two files only. hold.c has what goes to the database and comes from there,
 * hold_jobs.c what goes to the executor and comes from there.
 */
enum hold_state {
  HOLD_DOWN,     /* no session */
  HOLD_IDLE,     /* a session, no transaction */
  HOLD_CLAIMING, /* a claim is under way; behind the settling of the batch before, if there was one */
  HOLD_RUNNING,  /* jobs are with the executor, the transaction holds them */
  HOLD_CLOSING,  /* the transaction is being ended, without a new claim */
  HOLD_LOCKING,  /* jobs to be rescued are being locked */
  HOLD_UNDOING,  /* the transaction of an act that failed is being rolled back */
};

struct hold {
  char *name;
  struct hold_start start;
  struct connection *connection;
  struct child *child;
  enum hold_state state;
  bool stopping;
  int64_t careful_until_ms;

  struct claim claim;
  struct batch batch;       /* claimed, running; locked by the transaction */
  struct batch settling;    /* their outcomes are on their way to the server */
  struct lease_list leased; /* running on, without a transaction */
  struct rescue rescue;     /* outcomes that could not be written */

  struct buffer out;     /* a frame of jobs, sent when the act has ended well */
  bool lease_first;      /* the job in it is being leased: it is sent when it is */
  bool fetching;         /* the data of a large job is under way */
  int large;             /* which one; then it is on its way to the executor */
  bool waits;            /* for its turn to claim */
  bool refused;          /* a claim: there was no room in the executor */
  bool sweeps;           /* which is to be a sweep */
  int owed;              /* jobs that went back before they began: the executor has not come to them yet */
  bool released;         /* this act gives jobs back */
  bool nothing;          /* it ends a claim that found nothing */
  struct hold_look look; /* what is known of that */
  int64_t leases_lost;   /* so far */
  bool loss_told;        /* that a hold was lost has been logged, and nothing was committed since */
  struct hold_error error;
  uv_timer_t watch;
  int64_t running_since_ms;
  unsigned ticks;        /* of the watch */
  uint32_t parked_batch; /* whose jobs were all seen to wait, the last time they were looked at; 0: none */
};

/* hold_is_careful(hold): jobs are to be leased before they run. */
bool hold_is_careful(const struct hold *hold);

/* hold_settle(hold): in a transaction: writes all outcomes that are known, commits, and claims again. */
void hold_settle(struct hold *hold);

/* hold_proceed(hold): idle: whatever is to be done next. */
void hold_proceed(struct hold *hold);

/* hold_dispatch(hold): the jobs of the claim go to the executor, or are leased first. */
void hold_dispatch(struct hold *hold);

/* hold_send_leased(hold): the job that had to be leased first goes, if its lease was written. */
void hold_send_leased(struct hold *hold);

/* hold_go_on(hold): settles when all outcomes are known; fetches the next large job's data when there is room for it.
 */
void hold_go_on(struct hold *hold);

/* hold_keep_for_rescue(hold): outcomes nobody has written are kept; what runs is to be leased when it can be. */
void hold_keep_for_rescue(struct hold *hold);

/* hold_start_watch(hold): looks at jobs that run, and for room in the executor, every few ms, while there is a reason.
 */
void hold_start_watch(struct hold *hold);

/* The hold's timer. */
void hold_on_watch(uv_timer_t *timer);

#endif
