#ifndef PGQ_DOCTOR_CHECKS_H
#define PGQ_DOCTOR_CHECKS_H

#include <libpq-fe.h>

#include "doctor_report.h"
#include "options.h"

/* A run of `pgq-lua doctor`. */
struct doctor {
  const struct options *options;
  PGconn *conn;
  struct doctor_report report;
  bool slow; /* a statement has taken too long; others get less time */
};

/* How long a statement of a check may wait for a table that another session has locked: at first, and later. */
#define DOCTOR_LOCK_TIMEOUT_MS "1000"
#define DOCTOR_SHORT_LOCK_TIMEOUT_MS "100"

/* How long each statement of a check may take: at first, and after one has taken so long. */
enum { DOCTOR_TIMEOUT_MS = 2000, DOCTOR_SHORT_TIMEOUT_MS = 200 };

/*
 * doctor_begin(doctor): begins a read-only transaction with the settings of commands and a short statement timeout.
 * Returns NULL, or the result of the statement that failed, which the caller frees. doctor_rollback(doctor): ends it.
 */
PGresult *doctor_begin(const struct doctor *doctor);
void doctor_rollback(const struct doctor *doctor);

/* doctor_add_failure(doctor, check, result): adds the finding that a statement of a check has failed: a privilege or a
 * table is missing, or it took too long. */
void doctor_add_failure(struct doctor *doctor, const char *check, const PGresult *result);

/* The checks that are more than one statement. Each adds its findings. */
void doctor_check_tables(struct doctor *doctor);
void doctor_check_plans(struct doctor *doctor);
void doctor_check_listen(struct doctor *doctor);
void doctor_check_clock(struct doctor *doctor);

#endif
