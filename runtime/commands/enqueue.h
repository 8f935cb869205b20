#ifndef PGQ_ENQUEUE_H
#define PGQ_ENQUEUE_H

#include "options.h"

/*
 * enqueue_command(options, argc, argv): `pgq-lua enqueue QUEUE [DATA | -]`; argv holds the words behind `enqueue`
 * without the options. Prints the job's id. Returns the status to exit with: 0, 1 when the job was not enqueued, 2 for
 * wrong usage.
 */
int enqueue_command(const struct options *options, int argc, char **argv);

#endif
