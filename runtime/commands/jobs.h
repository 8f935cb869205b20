#ifndef PGQ_JOBS_H
#define PGQ_JOBS_H

#include "options.h"

/* jobs_command(options, argc, argv): `pgq-lua jobs [QUEUE]`: lists jobs, or the errors of failed jobs. Returns the exit
 * status. */
int jobs_command(const struct options *options, int argc, char **argv);

#endif
