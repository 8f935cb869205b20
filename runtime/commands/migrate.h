#ifndef PGQ_MIGRATE_H
#define PGQ_MIGRATE_H

#include "options.h"

/*
 * migrate_command(options): creates the tables, or brings older ones up to date, in one transaction. May be run again,
 * and from two places at once. Returns the status to exit with; says on stdout what it did, on stderr why it could not.
 */
int migrate_command(const struct options *options);

/* migrate_quietly(options): the same without a word on stdout. */
int migrate_quietly(const struct options *options);

#endif
