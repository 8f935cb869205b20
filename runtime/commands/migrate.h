#ifndef PGQ_MIGRATE_H
#define PGQ_MIGRATE_H

#include "options.h"

/*
 * Creates the tables, or brings older tables up to date, step by step and beside running sessions. It may be run again,
 * and by several programs at the same time. Returns the exit status of the program: 0 after printing on stdout what was
 * done, or 1 after printing on stderr why it was not completed; the next run continues.
 */
int migrate_command(const struct options *options);

/* Does the same, but prints nothing on stdout. */
int migrate_quietly(const struct options *options);

#endif
