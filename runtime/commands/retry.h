#ifndef PGQ_RETRY_H
#define PGQ_RETRY_H

#include "options.h"

/*
 * retry_command(options, argc, argv): `pgq-lua retry ID… | SELECTION`; delete_command(): `pgq-lua delete …`. argv are
 * the words after the command that are no options. Return the exit status: 0; 1 if a job was not changed, or after a
 * failure, with a message on stderr; 2 for wrong usage.
 */
int retry_command(const struct options *options, int argc, char **argv);
int delete_command(const struct options *options, int argc, char **argv);

#endif
