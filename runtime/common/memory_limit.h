#ifndef PGQ_MEMORY_LIMIT_H
#define PGQ_MEMORY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* The memory use of a process, and when it comes near its limit (--max-memory, which an executor sets as RLIMIT_DATA).
 */

/* The memory of this process in bytes, as /proc/self/statm reports it. */
struct memory_use {
  uint64_t resident;
  uint64_t data; /* private memory that can be written, touched or not: RLIMIT_DATA limits this */
};

/* memory_use_open(): a descriptor for memory_use_read(), which the caller closes; -1 when /proc is not there. */
int memory_use_open(void);

/* memory_use_read(fd, use): returns true and sets *use to the memory that the process uses now; returns false and
 * zeroes *use if that cannot be read. */
bool memory_use_read(int fd, struct memory_use *use);

/* memory_of_process(): the resident memory of this process in bytes; 0: not known. */
uint64_t memory_of_process(void);

/*
 * memory_is_scarce(used, limit): whether more than three quarters of the limit are used; all in bytes. A limit of 0 is
 * none. If this is true, the executor begins no job beside waiting jobs, and the supervisor replaces it.
 */
static inline bool memory_is_scarce(uint64_t used, uint64_t limit) {
  return limit > 0 && used > limit / 4 * 3;
}

#endif
