#ifndef PGQ_ENQUEUE_H
#define PGQ_ENQUEUE_H

#include "options.h"

/*
 * enqueue_command(options, argc, argv): `pgq-lua enqueue QUEUE [DATA | - | --lines]`; argv are the words after
 * `enqueue` that are no options. Enqueues the job or jobs and prints the ids. Returns the exit status: 0; 1 after a
 * failure, with a message on stderr that says whether jobs were enqueued; 2 for wrong usage.
 */
int enqueue_command(const struct options *options, int argc, char **argv);

#endif
