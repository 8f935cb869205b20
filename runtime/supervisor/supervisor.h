#ifndef PGQ_SUPERVISOR_H
#define PGQ_SUPERVISOR_H

#include "options.h"

/*
 * supervisor_run(options, argc, argv, script): runs a worker on the script argv[script] until it is told to stop, and
 * returns the status to exit with: 0 after a stop or a drain, 1 when it could not start. `options` receives the
 * settings of the script. Messages go to the log and to stderr. Takes over SIGTERM, SIGINT and SIGCHLD.
 */
int supervisor_run(struct options *options, int argc, char **argv, int script);

#endif
