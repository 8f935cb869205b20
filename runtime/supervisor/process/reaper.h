#ifndef PGQ_REAPER_H
#define PGQ_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Process 1 of a container becomes the parent of every process whose own parent has ended, and must ask for their exit
 * statuses: else they stay in the table of processes as zombies. Such orphans are processes that handlers have started.
 */

/* reaper_is_needed(): whether orphans become children of this process: it is process 1, or a "child subreaper". */
bool reaper_is_needed(void);

/*
 * reaper_run(is_executor, owner): asks for the statuses of all orphans that have ended. `is_executor` says whether a
 * process is an executor, whose status libuv asks for. Returns true if an ended executor was in the way, so that this
 * has to be called again after libuv has seen it.
 */
bool reaper_run(bool (*is_executor)(void *owner, pid_t pid), void *owner);

#endif
