#ifndef PGQ_TOP_H
#define PGQ_TOP_H

#include "options.h"

/* top_command(options, argc, argv): `pgq-lua top`: shows the lists on the terminal and reads them again and again,
 * until the user quits. Returns the exit status; a signal such as SIGTERM ends the process as that signal does. */
int top_command(const struct options *options, int argc, char **argv);

#endif
