#ifndef PGQ_THROUGHPUT_H
#define PGQ_THROUGHPUT_H

#include "options.h"

/* stats_command(options, argc, argv): `pgq-lua stats [QUEUE]`: lists, minute by minute, how many jobs ended and how
 * long they took. Returns the exit status. */
int stats_command(const struct options *options, int argc, char **argv);

#endif
