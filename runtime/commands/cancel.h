#ifndef PGQ_CANCEL_H
#define PGQ_CANCEL_H

#include "options.h"

/*
 * cancel_command(options, argc, argv): `pgq-lua cancel ID… | SELECTION`; argv are the words after `cancel` that are no
 * options. With ids, cancels the jobs one by one, each in a transaction of its own, and prints a line for each; else
 * see bulk.h. Returns the exit status: 0; 1 if a job had ended, is unknown, runs or could not be cancelled; 2 for wrong
 * usage, before any job is cancelled.
 */
int cancel_command(const struct options *options, int argc, char **argv);

#endif
