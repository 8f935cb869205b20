#ifndef PGQ_QUEUES_H
#define PGQ_QUEUES_H

#include "options.h"

/* queues_command(options, argc, argv): `pgq-lua queues`: lists the queues. Returns the exit status. */
int queues_command(const struct options *options, int argc, char **argv);

#endif
