#ifndef PGQ_SHOW_H
#define PGQ_SHOW_H

#include "options.h"

/* show_command(options, argc, argv): `pgq-lua show ID`: prints what is known about a job, or its data. Returns the exit
 * status. */
int show_command(const struct options *options, int argc, char **argv);

#endif
