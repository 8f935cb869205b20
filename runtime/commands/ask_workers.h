#ifndef PGQ_ASK_WORKERS_H
#define PGQ_ASK_WORKERS_H

#include "options.h"

/* `pgq-lua quiet`, `stop` and `reload`: ask something of a worker, or of all, wherever they run. The words are workers,
 * each as host:pid or as its id. Print a line for each, and return the exit status. */
int quiet_command(const struct options *options, int argc, char **argv);
int stop_command(const struct options *options, int argc, char **argv);
int reload_command(const struct options *options, int argc, char **argv);

#endif
