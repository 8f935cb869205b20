#ifndef PGQ_PROTOCOL_H
#define PGQ_PROTOCOL_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * The protocol between supervisor and executor, on the socket that is descriptor 3 of the executor. The life of an
 * executor:
 *
 *     supervisor                     executor
 *     CONFIGURE ───────────────────►            once, first
 *               ◄─────────────────── SOURCES    the files that it has read; only if CONFIGURE had none
 *               ◄─────────────────── READY      the script has loaded; or
 *               ◄─────────────────── BROKEN     it has not, and the executor exits with status 1
 *     SERVE     ───────────────────►            once: the settings that apply
 *     JOBS      ───────────────────►            any number of times: jobs of a batch
 *               ◄─────────────────── OUTCOMES   exactly one outcome for each job, in frames of any size
 *     RECALL    ───────────────────►            jobs that have not begun come back as OUTCOME_UNRUN
 *     CANCEL    ───────────────────►            a job that has begun is to end early
 *               ◄─────────────────── STOP       a handler has called pgq.stop()
 *               ◄─────────────────── LOG        a line for the log
 *               ◄─────────────────── REPLACE    no further job begins; the executor is to be replaced
 *     LEAVE     ───────────────────►            (or the end of the socket) the executor exits with status 0
 *
 * The structs of message.h have the fields of each frame, in their order in the frame.
 */
enum frame_type {
  FRAME_CONFIGURE = 1,
  FRAME_JOBS,
  FRAME_RECALL,
  FRAME_LEAVE, /* no fields */
  FRAME_READY,
  FRAME_BROKEN,
  FRAME_OUTCOMES,
  FRAME_STOP, /* no fields */
  FRAME_SERVE,
  FRAME_CANCEL,
  FRAME_LOG,
  FRAME_REPLACE,
  FRAME_SOURCES,
};

/* Stands for all queues in FRAME_RECALL. */
enum { QUEUE_ALL = 0xffffffff };

/* The longest frame in bytes. DOWN, to the executor: a job with the most data. UP, to the supervisor: the names of all
 * queues. */
#define FRAME_MOST_DOWN ((size_t)300 << 20)
#define FRAME_MOST_UP ((size_t)64 << 20)

/* The most bytes of source files that executors of one version share. */
#define SOURCES_MOST ((size_t)32 << 20)

/* The most data of a job, in bytes. */
enum { JOB_DATA_MOST = 256 << 20 };

/* Errors, tracebacks and the log messages of handlers are cut to this many bytes. */
enum { ERROR_TEXT_MOST = 10 * 1024 };

/* How many transactional jobs an executor may run at once: each occupies a connection of the pool, and one is left
 * for the other jobs. */
#define TRANSACTIONAL_MOST(pool) ((pool) > 1 ? (pool)-1 : 1)

enum outcome {
  OUTCOME_NONE,     /* the job has not ended */
  OUTCOME_COMPLETE, /* the handler succeeded */
  OUTCOME_FAIL,     /* the handler failed; the error states the reason */
  OUTCOME_UNRUN,    /* the handler did not begin: the job goes back as if it had not been claimed */
  OUTCOME_SNOOZE,   /* the job runs again after a wait; this run does not count as an attempt */
  OUTCOME_SETTLED,  /* the handler succeeded, and its own transaction has completed the job */
  /* Only the supervisor uses the following outcomes; no frame has them. */
  OUTCOME_LEASE,  /* the job still runs, and is to be leased */
  OUTCOME_EXTEND, /* the claim met a job that runs in this worker under its lease: the lease is extended */
  OUTCOME_DEATH,  /* a process died while the job was in flight, and the culprit is unknown: it goes back, see deaths.h
                   */
  OUTCOME_CANCELLED, /* the lease is lost, and the attempt has ended: if the job was cancelled, the history has it */
};

/* A yes-or-no setting of a queue; unset: the worker's setting applies. */
enum choice { CHOICE_UNSET, CHOICE_NO, CHOICE_YES };

/* The descriptors that an executor has when it starts, beside 0, 1 and 2. */
enum { EXECUTOR_SOCKET = 3, EXECUTOR_PAGE = 4 };

/*
 * The number of holds of an executor. While the executor works on the batch of one hold, the other settles and claims.
 * The hold of a batch is batch % HOLDS_PER_EXECUTOR.
 */
enum { HOLDS_PER_EXECUTOR = 2 };

/* The state of the batches of one hold; see below. */
struct page_lane {
  _Atomic uint64_t begun;   /* written by the executor: the last job that began, PAGE_TASK(batch, position) */
  _Atomic uint32_t revoked; /* written by the supervisor: jobs of this batch and of earlier ones must not begin */
};

/*
 * A page of memory that supervisor and executor share (descriptor 4). The supervisor can read it after the executor has
 * died.
 *
 * It lets the supervisor take back the jobs of a batch that have not begun, even if a busy executor reads no frames.
 * The supervisor writes `revoked` and then reads `begun`. The executor writes `begun` and then reads `revoked`, before
 * each job. Whatever the order, both sides agree for each job whether it runs.
 */
struct shared_page {
  _Atomic uint32_t runs;        /* 1: a handler is running now, and the next four fields are about its job */
  _Atomic int64_t current_job;  /* id of the job: any value */
  _Atomic int64_t started_us;   /* clock_us() when the job began */
  _Atomic int64_t resumed_us;   /* clock_us() when its handler began or last continued after a wait */
  _Atomic int64_t kill_at_us;   /* clock_us() from which a handler that does not wait is killed; 0: never */
  _Atomic int64_t callback_us;  /* clock_us() when the luv callback began that is running now; 0: none */
  _Atomic uint32_t all_waiting; /* 1: every task waits, and no job can begin, until an event comes in */
  struct page_lane lanes[HOLDS_PER_EXECUTOR]; /* by batch % HOLDS_PER_EXECUTOR */
  _Atomic uint64_t seal;                      /* written by the executor after `begun`: page_seal() */
};

#define PAGE_TASK(batch, position) ((uint64_t)(batch) << 32 | (position))

/*
 * page_seal(page): a number that depends on both `begun`. If `seal` is another one when the executor has died, a
 * handler has written to the page (with a wild pointer of a C module), and nothing on it can be believed.
 */
static inline uint64_t page_seal(struct shared_page *page) {
  uint64_t seal = UINT64_C(0x9e3779b97f4a7c15);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    seal = (seal ^ atomic_load_explicit(&page->lanes[lane].begun, memory_order_relaxed)) * UINT64_C(0xff51afd7ed558ccd);
  return seal;
}

#endif
