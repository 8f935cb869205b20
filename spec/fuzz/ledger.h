#ifndef PGQ_FUZZ_LEDGER_H
#define PGQ_FUZZ_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "message.h"
#include "script.h"

/*
 * The expected outcomes of the jobs of an executor, kept apart from the executor. All its actions are reported here,
 * and the process aborts when an action is not allowed. There is one ledger.
 *
 *     to begin ─► runs ⇄ waits
 *         │         └─► ended
 *         └─ recalled, cancelled, revoked, or too many of its queue wait ─► ended, unrun
 */

/* ledger_open(page): empty; the page is the executor's. ledger_close(): frees what it holds. */
void ledger_open(struct shared_page *page);
void ledger_close(void);

/* What the supervisor has said, and the executor has taken. The frame is one of jobs; it is not kept. */
void ledger_serve(const struct message_serve *serve);
void ledger_add(struct frame frame);
void ledger_recall(uint32_t batch, uint32_t queue);

/* ledger_cancel(batch, index): before the executor is told; ledger_check_cancelled(): after. */
void ledger_cancel(uint32_t batch, uint32_t index);
void ledger_check_cancelled(void);

/* The calls of the script: see script.h. */
uint32_t ledger_begin(uint32_t number, const struct message_job *job, bool preserve); /* returns the job's batch */
void ledger_resume(uint32_t number);
void ledger_interrupt(uint32_t number, enum script_interrupt why, bool final);

/* What the script says. The texts of `end` have to live until the outcome is there. */
void ledger_wake(uint32_t number);
void ledger_return(uint32_t number, const struct job_outcome *end);

/* What goes into the outbox. */
void ledger_outcome(const struct job_outcome *outcome);

/* ledger_has_task(number): a task of that number runs or waits. */
bool ledger_has_task(uint32_t number);

/* ledger_has_work(): a task can go on, or a job can begin or go back. */
bool ledger_has_work(void);

/* ledger_waits(): how many tasks wait. ledger_left(): how many jobs have not ended. */
uint32_t ledger_waits(void);
uint32_t ledger_left(void);

/* ledger_check_limits(now_us): the loop has looked at its timers then: no task waits beyond its time limit. */
void ledger_check_limits(int64_t now_us);

#endif
