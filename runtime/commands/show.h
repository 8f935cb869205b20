#ifndef PGQ_SHOW_H
#define PGQ_SHOW_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>

#include "options.h"

/* show_command(options, argc, argv): `pgq-lua show ID`: prints what is known about a job, or its data. Returns the exit
 * status. */
int show_command(const struct options *options, int argc, char **argv);

#define SHOW_NEEDS "{pgq_jobs SELECT,pgq_workers SELECT,pgq_attempts SELECT,pgq_queues SELECT,pgq_stats SELECT}"

/* What is shown about a job, and where. */
struct shown {
  FILE *out;
  int width;                /* columns of the terminal; 0: lines are not wrapped */
  const char *now;          /* the time of the transaction */
  const char *id;           /* of the job */
  const PGresult *job;      /* the row of show_job.sql, or none */
  const PGresult *attempts; /* the rows of show_attempts.sql */
  const PGresult *why;      /* the row of SHOW_WHY if show_wants_why(), else NULL */
};

#define SHOW_WHY "SELECT code, sentence FROM pgq_why($1::pg_catalog.int8)"

/* show_wants_why(job): whether the job of show_job.sql has not ended, so that there is a reason why it waits. */
bool show_wants_why(const PGresult *job);

/* show_print(shown): prints the job and its attempts for a reader. */
void show_print(const struct shown *shown);

#endif
