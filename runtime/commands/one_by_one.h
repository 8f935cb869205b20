#ifndef PGQ_ONE_BY_ONE_H
#define PGQ_ONE_BY_ONE_H

#include "bulk.h"

/*
 * one_by_one_run(verb, options, argc, argv): does it to the jobs with these ids, each in a transaction of its own, and
 * prints a line for each. If another session has locked a job, waits for it, and says so: see lock_wait.h. Returns the
 * exit status: 0; 1 if a job could not be changed; 2 for wrong usage, before any job is changed.
 */
int one_by_one_run(const struct bulk_verb *verb, const struct options *options, int argc, char **argv);

/* A change that has parameters of its own. */
struct one_by_one_change {
  /* Changes the job of the int8[] `ids`, whose row is locked. Returns what verb->sql returns, or NULL after printing a
   * message. */
  PGresult *(*change)(struct transaction *transaction, const char *ids, void *context);
  void *context;
  const char *detail; /* for pgq_audit */
};

/* one_by_one_run_change(verb, options, change, argc, argv): the same, with this change instead of verb->sql. The words
 * have been checked. */
int one_by_one_run_change(const struct bulk_verb *verb, const struct options *options,
                          const struct one_by_one_change *change, int argc, char **argv);

/*
 * one_by_one_check(verb, options, argc, argv): checks that the words are ids, and that no option selects jobs besides.
 * Returns 0, or -1 after printing a message for wrong usage.
 */
int one_by_one_check(const struct bulk_verb *verb, const struct options *options, int argc, char **argv)
    __attribute__((warn_unused_result));

/* one_by_one_print(id, line): prints the line about a job. Returns 0, or -1 after a message if that is not possible. */
int one_by_one_print(const char *command, const char *id, const char *line) __attribute__((warn_unused_result));

#endif
