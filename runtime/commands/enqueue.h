#ifndef PGQ_ENQUEUE_H
#define PGQ_ENQUEUE_H

#include "options.h"

/*
 * enqueue_command(options, argc, argv): `pgq-lua enqueue QUEUE [DATA | - | --lines]`; argv holds the words behind
 * `enqueue` without the options. Prints the ids. Returns the status to exit with: 0, 1 when no job was enqueued, 2 for
 * wrong usage.
 */
int enqueue_command(const struct options *options, int argc, char **argv);

#endif
