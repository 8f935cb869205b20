#ifndef PGQ_WORKERS_H
#define PGQ_WORKERS_H

#include "options.h"

/* workers_command(options, argc, argv): `pgq-lua workers`: lists the workers. Returns the exit status. */
int workers_command(const struct options *options, int argc, char **argv);

#endif
