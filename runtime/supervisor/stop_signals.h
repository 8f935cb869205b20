#ifndef PGQ_STOP_SIGNALS_H
#define PGQ_STOP_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/*
 * The signals of the worker.
 *
 *   TERM, INT, QUIT   stop the worker; the next one of them ends the grace time
 *   HUP               reloads the script; stops the worker if its terminal has gone; never ends the grace time, since
 *                     service managers send it after TERM
 *   USR1, USR2        are logged and have no effect
 *   CHLD              process 1 asks for the statuses of orphans
 *   PIPE, XFSZ, TTOU, ALRM, VTALRM, PROF, IO, PWR, STKFLT, real-time signals   are ignored
 *
 * One signal may arrive twice: timeout(1) signals its child and then the group of its child, and a terminal and a
 * process manager both pass on ^C. So the same signal within REPEAT_MS counts once. It does count in a worker that is
 * stuck: the jobs have nothing to gain from the grace time, and whoever stops the worker mostly knows it. The grace
 * time ends:
 *
 *   after a second signal that counts within DOUBLED_MS   DOUBLED_GRACE_MS after the first one, if not earlier
 *   within REPEAT_MS                                      REPEAT_GRACE_MS after the first one: short jobs can end
 *   later                                                 at once
 */
struct signal_events {
  void (*stop)(void *owner, const char *signal);
  void (*reload)(void *owner, const char *signal);
  /* The grace time is to end in `in_ms` at the latest; 0: now. */
  void (*hurry)(void *owner, int64_t in_ms);
  /* Whether a process is an executor of this worker. */
  bool (*is_executor)(void *owner, pid_t pid);
  /* Whether the worker cannot write the outcomes of its jobs, or its log. */
  bool (*is_stuck)(void *owner);
};

enum { STOP_SIGNALS = 7 };

struct stop_signals {
  const struct signal_events *events;
  void *owner;
  int64_t first_ms;  /* when the first of TERM, INT and QUIT came; 0: none has */
  int first_number;  /* its number */
  bool has_terminal; /* the worker was started on a terminal */
  uv_signal_t handles[STOP_SIGNALS];
  uv_timer_t reap_timer;
};

/* stop_signals_start(signals, loop, events, owner): begins to take signals. `signals` must be zeroed before. */
void stop_signals_start(struct stop_signals *signals, uv_loop_t *loop, const struct signal_events *events, void *owner);

/* stop_signals_close(signals): closes its handles; the struct must live until the loop has ended. */
void stop_signals_close(struct stop_signals *signals);

#endif
