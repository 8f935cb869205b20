#ifndef PGQ_PAUSE_H
#define PGQ_PAUSE_H

#include "options.h"

/*
 * pause_command(options, argc, argv): `pgq-lua pause QUEUE`; resume_command(): `pgq-lua resume QUEUE`. argv are the
 * words after the command that are no options. Both print one line. Return the exit status: 0; 1 after a failure, with
 * a message on stderr; 2 for wrong usage.
 */
int pause_command(const struct options *options, int argc, char **argv);
int resume_command(const struct options *options, int argc, char **argv);

#endif
