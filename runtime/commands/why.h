#ifndef PGQ_WHY_H
#define PGQ_WHY_H

#include "options.h"

/* why_command(options, argc, argv): `pgq-lua why`; `argv` has what follows the options. Returns the exit status: 0; 1
 * if the database does not know the job or the queue, or there was trouble; 2 for wrong usage. */
int why_command(const struct options *options, int argc, char **argv);

#endif
