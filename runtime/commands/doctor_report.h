#ifndef PGQ_DOCTOR_REPORT_H
#define PGQ_DOCTOR_REPORT_H

#include <stdbool.h>

#include "listing.h"
#include "options.h"

/* What `pgq-lua doctor` prints: a finding at a time, as soon as it is known. */
struct doctor_report {
  /* private */
  struct listing listing;
  bool is_terminal;
  int ok, warn, bad;
  int failure; /* errno of the first finding that could not be printed; 0: all were */
};

void doctor_report_begin(struct doctor_report *report, const struct options *options);

/*
 * doctor_report_add(report, check, level, finding, repair): prints a finding. `check` is the name of the check, `level`
 * is "ok", "warn" or "bad"; `repair` is what to do, mostly a command, or NULL.
 */
void doctor_report_add(struct doctor_report *report, const char *check, const char *level, const char *finding,
                       const char *repair);

/* doctor_report_end(report): prints a summary on a terminal. Returns the exit status of the command: 0 if nothing is
 * bad and all was printed, else 1. */
int doctor_report_end(struct doctor_report *report);

#endif
