#ifndef PGQ_JOBS_H
#define PGQ_JOBS_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "listing.h"
#include "options.h"
#include "selection.h"

/* jobs_command(options, argc, argv): `pgq-lua jobs [QUEUE]`: lists jobs, or the errors of failed jobs. Returns the exit
 * status. */
int jobs_command(const struct options *options, int argc, char **argv);

/* The list: its columns, and the privileges that its statements need. */
enum { JOBS_COLUMNS = 17, JOBS_ID = 0, JOBS_STATE = 2 };
extern const struct listing_column jobs_columns[];
#define JOBS_NEEDS "{pgq_jobs SELECT,pgq_workers SELECT}"

/* A state of jobs, and the statement that reads jobs in this state, whose second parameter is the name. */
struct jobs_state {
  enum job_state state;
  const char *name;
  const char *sql;
};

/* All states, in the order in which they are listed. */
enum { JOBS_STATES = 6, JOBS_PARAMETERS = 10 };
extern const struct jobs_state jobs_states[JOBS_STATES];

/* jobs_add(listing, state, result, most): adds the first `most` rows of the statement of a state to a list with these
 * columns. Returns how many rows there are. */
int jobs_add(struct listing *listing, const struct jobs_state *state, const PGresult *result, int most);

/* jobs_are_cut(result): whether other jobs would belong into the rows of the statement that it has not searched. */
bool jobs_are_cut(const PGresult *result);

#endif
