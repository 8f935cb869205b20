#ifndef PGQ_EXECUTOR_H
#define PGQ_EXECUTOR_H

/*
 * executor_main(supervisor): runs an executor process, which a supervisor starts as `pgq-lua executor PID SCRIPT`.
 * `supervisor` is the text PID, its process number, or NULL. The executor exchanges frames on
 * descriptor 3 and shares the page on descriptor 4 (see protocol.h). Returns the exit status: 0 after FRAME_LEAVE or
 * the end of the socket, 1 if the script could not be loaded, 2 if the process was not started by a supervisor or
 * received a malformed frame.
 */
int executor_main(const char *supervisor);

#endif
