#ifndef PGQ_CHILD_H
#define PGQ_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "buffer.h"
#include "message.h"
#include "protocol.h"

/*
 * One executor process, from the supervisor's side: started, spoken to in frames, watched until its death. The process
 * is not trusted: a malformed frame from it kills it.
 *
 *     child_start ─► ready | broken ─► (outcome | stop)* ─► died ─ child_free
 *
 * Every child ends with died(), exactly once; then the pointer may be freed or the child started anew.
 */
struct child;

/* How an executor died. */
struct child_death {
  int64_t culprit;   /* id of the job that was running; 0: none was */
  bool orderly;      /* it was asked to leave, and exited with status 0 */
  bool alone;        /* one job had begun and not ended; for whoever counts them to say */
  int64_t ran_us;    /* and for how long */
  const char *cause; /* "was killed by SIGSEGV" */
  const char *run;   /* how the culprit had fared: "for 1.5 s, peak memory 80 MB" */
};

struct child_events {
  /* The script has loaded. `script` and its texts live during the call. */
  void (*ready)(void *owner, const struct message_ready *script);
  void (*broken)(void *owner, const char *message, size_t length);
  /* Returns false for an outcome that cannot be: the child is then killed. The texts live during the call. */
  bool (*outcome)(void *owner, const struct job_outcome *outcome);
  /* All outcomes that came in one go have been told. */
  void (*outcomes_end)(void *owner);
  void (*stop)(void *owner);
  void (*died)(void *owner, const struct child_death *death);
};

struct child_start {
  const char *conninfo; /* for pgq.enqueue in handlers; may be NULL */
  int argc;             /* the command line, of which argv[script] is the script */
  char **argv;
  int script;
  int64_t max_memory; /* bytes an executor may take; 0: no limit */
};

/* child_new(loop, start, events, owner): nothing runs yet. `start` and its texts must outlive the child. */
struct child *child_new(uv_loop_t *loop, const struct child_start *start, const struct child_events *events,
                        void *owner);

/* child_start(child): starts the process. 0, or -1 (with a line in the log) if it could not be started. */
int child_start(struct child *child);

/* child_serve(child, serve): what was resolved of the script's settings; once, before any jobs. */
void child_serve(struct child *child, const struct message_serve *serve);

/* child_send(child, frames): sends the bytes of `frames`, which becomes empty. Does nothing when the child is dead. */
void child_send(struct child *child, struct buffer *frames);

/* child_recall(child, batch, queue): jobs of `batch` that have not started are to come back; `queue` or QUEUE_ALL. */
void child_recall(struct child *child, uint32_t batch, uint32_t queue);

/* child_cancel(child, batch, index): that job, which may have begun, is to end; its outcome will come. */
void child_cancel(struct child *child, uint32_t batch, uint32_t index);

/* child_leave(child): asks the process to exit when its current job has ended. That it does is for the caller to see.
 */
void child_leave(struct child *child);

/*
 * child_kill(child, cause): SIGKILL to the process and all it started in its group; died() follows, with `cause` ("was
 * killed at its time limit"), or with the signal when that is NULL.
 */
void child_kill(struct child *child, const char *cause);

/* child_retire(child): it counts as not ready from now on: it is given no more jobs. child_leave() is to follow. */
void child_retire(struct child *child);

/* child_begin_batch(child, batch): its jobs may begin; those of earlier batches of the same hold must not any more. */
void child_begin_batch(struct child *child, uint32_t batch);

/* child_begun(child, batch): the last position of the batch that has begun, 0 for none. */
uint32_t child_begun(const struct child *child, uint32_t batch);

/*
 * child_has_begun(child, batch, position): whether the executor has come to that job: it has begun it, or has found its
 * batch revoked.
 */
bool child_has_begun(const struct child *child, uint32_t batch, uint32_t position);

/*
 * child_revoke(child, batch): jobs of the batch that have not begun never will. Returns the last position that has
 * begun (it may have ended since), 0 for none.
 */
uint32_t child_revoke(struct child *child, uint32_t batch);

/* child_current(child, id, ran_ms): the job whose handler is running right now, and for how long. False for none. */
bool child_current(const struct child *child, int64_t *id, int64_t *ran_ms);

/* child_busy_ms(child): for how long that handler has not waited, or a callback of luv has run; 0 when there is none.
 */
int64_t child_busy_ms(const struct child *child);

/* child_is_overdue(child): that handler has passed its time limit, and does not wait. */
bool child_is_overdue(const struct child *child);

/* child_is_all_waiting(child): every task of the executor waits, and no job can begin until an event comes in. */
bool child_is_all_waiting(const struct child *child);

/* child_memory(child): bytes of memory it has now; 0 when that cannot be told. */
int64_t child_memory(const struct child *child);

/* child_check_process(child): kills a stuck process, and reads its peak memory for a report of its death. Call it now
 * and then while it has jobs. */
void child_check_process(struct child *child);

/* child_is_alive(child): from child_start() to died(). child_is_ready(child): from ready() to died(). */
bool child_is_alive(const struct child *child);
bool child_is_ready(const struct child *child);
int child_pid(const struct child *child);

/* child_free(child): only of a child that is not alive. NULL is allowed. */
void child_free(struct child *child);

#endif
