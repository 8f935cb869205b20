#ifndef PGQ_ROOM_H
#define PGQ_ROOM_H

#include <stdbool.h>

/* Whether the process has used three quarters of the memory that it may take (RLIMIT_DATA, as --max-memory sets it).
 * False when there is no limit, or it cannot be told. */
bool room_is_short(void);

#endif
