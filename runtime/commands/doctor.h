#ifndef PGQ_DOCTOR_H
#define PGQ_DOCTOR_H

#include "options.h"

/* doctor_command(options, argc, argv): `pgq-lua doctor`; `argv` has what follows the options. Returns the exit status:
 * 0 if nothing is bad; 1 if something is, or the database could not be reached; 2 for wrong usage. */
int doctor_command(const struct options *options, int argc, char **argv);

#endif
