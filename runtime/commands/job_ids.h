#ifndef PGQ_JOB_IDS_H
#define PGQ_JOB_IDS_H

/*
 * job_ids_check(command, argc, argv, usage): checks that all words are ids of jobs. Returns 0, or -1 after printing a
 * message for wrong usage, with the usage of the command.
 */
int job_ids_check(const char *command, int argc, char **argv, const char *usage) __attribute__((warn_unused_result));

/* job_ids_array(argc, argv): the ids as the text of an int8[], at most the first 1,000. The caller frees it. */
char *job_ids_array(int argc, char **argv);

#endif
