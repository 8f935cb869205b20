#ifndef PGQ_ERROR_GROUPS_H
#define PGQ_ERROR_GROUPS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "inquiry.h"
#include "options.h"

/* error_groups_key(out, size, error): copies an error message to `out`, with # in place of numbers and of words that
 * are hexadecimal (at least eight digits, one of them below ten; UUIDs; after 0x), so that messages that differ only in
 * these become the same. A text that does not fit is cut. */
void error_groups_key(char *out, size_t size, const char *error);

/* error_groups_is_cut(result): whether there are more errors than the rows of jobs_errors.sql. */
bool error_groups_is_cut(const PGresult *result);

/* error_groups_list(options, inquiry, result): lists the groups of errors that are the rows of jobs_errors.sql, largest
 * group first. Returns 0, or -1 after a message. */
int error_groups_list(const struct options *options, const struct inquiry *inquiry, const PGresult *result)
    __attribute__((warn_unused_result));

#endif
