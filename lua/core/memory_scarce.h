#ifndef PGQ_MEMORY_SCARCE_H
#define PGQ_MEMORY_SCARCE_H

#include <stdbool.h>

/* Whether this process uses more than three quarters of the memory that it may use (RLIMIT_DATA, which --max-memory
 * sets). False when there is no limit, and when the memory cannot be measured. */
bool memory_is_scarce_here(void);

#endif
