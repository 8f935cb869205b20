#ifndef PGQ_EXECUTOR_H
#define PGQ_EXECUTOR_H

/*
 * executor_main(): the life of an executor process, started by a supervisor as `pgq-lua executor`. Speaks frames on
 * descriptor 3 and shares the page on descriptor 4 (see protocol.h). Returns the status to exit with.
 */
int executor_main(void);

#endif
