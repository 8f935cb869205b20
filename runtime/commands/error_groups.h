#ifndef PGQ_ERROR_GROUPS_H
#define PGQ_ERROR_GROUPS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inquiry.h"
#include "listing.h"
#include "options.h"

/* error_groups_key(out, size, error): copies an error message to `out`, with # in place of numbers and of words that
 * are hexadecimal (at least eight digits, one of them below ten; UUIDs; after 0x), so that messages that differ only in
 * these become the same. A text that does not fit is cut. */
void error_groups_key(char *out, size_t size, const char *error);

/* The list: its columns. */
enum { ERROR_GROUPS_COLUMNS = 6, ERROR_GROUPS_KEY = 4 };
extern const struct listing_column error_groups_columns[];

/* error_groups_add(listing, result, most): adds the `most` largest groups of the errors that are the rows of
 * jobs_errors.sql to a list with these columns, the largest first. If not all errors were read, each count has a "+".
 * Returns how many groups there are. */
int error_groups_add(struct listing *listing, const PGresult *result, int64_t most);

/* error_groups_read(result): how many errors these rows have. error_groups_are_cut(result): whether jobs_errors.sql has
 * read as many as it may, so that there may be more. */
int error_groups_read(const PGresult *result);
bool error_groups_are_cut(const PGresult *result);

/* error_groups_list(options, inquiry, result): lists the groups of errors that are the rows of jobs_errors.sql, largest
 * group first. Returns 0, or -1 after a message. */
int error_groups_list(const struct options *options, const struct inquiry *inquiry, const PGresult *result)
    __attribute__((warn_unused_result));

#endif
