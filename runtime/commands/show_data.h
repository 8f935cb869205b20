#ifndef PGQ_SHOW_DATA_H
#define PGQ_SHOW_DATA_H

#include <libpq-fe.h>

#include "inquiry.h"
#include "options.h"

/* show_data_fetch(inquiry, id): the data of a job in binary form, which the caller frees with PQclear(). NULL after a
 * message: there is no such job, or the database has failed. */
PGresult *show_data_fetch(struct inquiry *inquiry, const char *id) __attribute__((warn_unused_result));

/* show_data_print(options, result): prints the bytes of the data, unchanged. On a terminal the data must be text, and
 * characters that cannot be seen are printed as escapes. With --data-file, the function writes the data into this file.
 * Returns 0, or -1 after a message. */
int show_data_print(const struct options *options, const PGresult *result) __attribute__((warn_unused_result));

/* show_data_hex(result): the data as hexadecimal digits, which the caller frees. */
char *show_data_hex(const PGresult *result);

#endif
