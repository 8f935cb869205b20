#ifndef PGQ_JOB_VALUES_H
#define PGQ_JOB_VALUES_H

#include <stddef.h>

#include "buffer.h"

/* Values of a job that commands take: its retry waits and its data. */

enum { WAIT_MOST = 1000 };

/* The waits of --retry-waits. A zeroed list is empty. */
struct wait_list {
  char *texts[WAIT_MOST]; /* durations as pgq_enqueue() reads them */
  size_t count;
};

/* wait_list_read(waits, text, command): reads waits that are separated by commas; without a unit they are seconds. NULL
 * is an empty list. Returns 0, or -1 after printing a message. */
int wait_list_read(struct wait_list *waits, const char *text, const char *command) __attribute__((warn_unused_result));
void wait_list_free(struct wait_list *waits);

/* data_read(data, path, command): adds all of the file, or of standard input if the path is "-". Returns 0, or -1 after
 * printing a message if that fails or the data is too long for a job. */
int data_read(struct buffer *data, const char *path, const char *command) __attribute__((warn_unused_result));

#endif
