#ifndef PGQ_START_LINE_H
#define PGQ_START_LINE_H

#include "control.h"
#include "options.h"

/* start_line_log(options, control, script, queues, executors): logs that the worker begins to serve: which database it
 * uses and as whom, how many queues and executors it has, and the options that differ from their defaults. */
void start_line_log(const struct options *options, const struct control *control, const char *script, int queues,
                    int executors);

#endif
