#ifndef PGQ_SIGNAL_RESET_H
#define PGQ_SIGNAL_RESET_H

/*
 * A process inherits which signals are blocked and which are ignored. Shells, service managers and other parents leave
 * both in any state: a blocked SIGTERM would make a worker unstoppable, and with an ignored SIGCHLD os.execute() fails.
 */

/* signal_reset(): unblocks all signals, and gives those that are ignored their default action. SIGHUP stays ignored if
 * it was: nohup(1) works like this. Keeps handlers. */
void signal_reset(void);

#endif
