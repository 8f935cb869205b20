#ifndef PGQ_CANCEL_H
#define PGQ_CANCEL_H

#include "options.h"

/*
 * cancel_command(options, argc, argv): `pgq-lua cancel ID…`; argv holds the words behind `cancel` without the options.
 * Cancels the jobs one by one, each for good, and prints a line about each. Returns the status to exit with: 0, 1 when
 * one of them had ended, is unknown or could not be cancelled, 2 for wrong usage; then none has been touched.
 */
int cancel_command(const struct options *options, int argc, char **argv);

#endif
