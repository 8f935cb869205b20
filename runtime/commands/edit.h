#ifndef PGQ_EDIT_H
#define PGQ_EDIT_H

#include "options.h"

/*
 * edit_command(options, argc, argv): `pgq-lua edit ID…`; argv are the words after `edit` that are no options. Changes
 * the jobs one by one, and prints a line for each. Returns the exit status: 0; 1 if a job was not changed, or after a
 * failure, with a message on stderr; 2 for wrong usage.
 */
int edit_command(const struct options *options, int argc, char **argv);

#endif
