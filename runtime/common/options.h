#ifndef PGQ_OPTIONS_H
#define PGQ_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "log.h"

/*
 * Everything that can be set, in one table (options.c): a row drives the command line, the environment, what
 * pgq.configure may set, `--help`, and the checks. Where a value comes from decides: a flag wins over the environment,
 * the environment over the script, the script over the default.
 */

/* The commands an option may be given to; a bit each. */
enum command {
  COMMAND_WORKER = 1,
  COMMAND_ENQUEUE = 2,
  COMMAND_MIGRATE = 4,
  COMMAND_DEV = 8,
  COMMAND_CANCEL = 16,
  COMMAND_ANY = 31
};

/* What --pooler says about the connection pooler between the worker and the server. */
enum pooler {
  POOLER_AUTO,        /* the first connection finds out whether there is one; then it is taken for POOLER_TRANSACTION */
  POOLER_NONE,        /* the connections are direct */
  POOLER_SESSION,     /* a client keeps its session until it disconnects */
  POOLER_TRANSACTION, /* a client has a session for one transaction */
};

struct options {
  char *db;            /* connection string, or NULL for libpq's own PG* variables and service file */
  int64_t executors;   /* 0: as many as there are cores */
  int64_t concurrency; /* jobs that wait at once in an executor */
  int64_t pool;        /* connections that an executor's handlers share */
  int64_t poll_interval_ms;
  int64_t grace_ms;
  int64_t hold_limit_ms;
  int64_t lease_ms;
  int64_t timeout_ms;         /* 0: none */
  int64_t max_jobs;           /* 0: no limit */
  int64_t max_memory;         /* bytes; 0: no limit */
  int64_t connect_timeout_ms; /* 0: not given */
  bool preserve_completed;
  bool discard_failed;
  bool drain;
  int pooler; /* enum pooler */
  bool no_prepare;
  bool dev;
  int log_format;   /* enum log_format */
  int log_level;    /* enum log_level */
  int64_t delay_ms; /* enqueue; -1: not given */
  char *after;
  char *retry_waits;
  bool lines;
  bool version;
  bool help;
  unsigned char source[32]; /* per row of the table: who set it, see options.c */
};

/* An explanation of what is wrong with an option's value, to be shown to the user. */
struct option_problem {
  char message[512];
};

/* options_init(options): the defaults. options_free() frees the texts; both leave the struct usable. */
void options_init(struct options *options);
void options_free(struct options *options);

/* options_from_environment(options, problem): 0, or -1 and the problem (names the variable). */
int options_from_environment(struct options *options, struct option_problem *problem);

/*
 * options_from_arguments(options, argc, argv, mixed, problem): reads options from argv[1] on. With `mixed`, options may
 * stand between other words, which are moved behind them; else reading stops at the first other word. Returns the
 * index of the first word that is no option, or -1 and the problem. argv is kept, not copied.
 */
int options_from_arguments(struct options *options, int argc, char **argv, bool mixed, struct option_problem *problem);

/*
 * options_from_script(options, name, value, problem): what pgq.configure{ name = value } set; names have underscores.
 * Does nothing when a flag or the environment has set it already. 0, or -1 and the problem. `options` may be NULL to
 * check only.
 */
int options_from_script(struct options *options, const char *name, const char *value, struct option_problem *problem);

/* options_check_command(options, command, problem): -1 when an option was given that `command` does not take. */
int options_check_command(const struct options *options, enum command command, struct option_problem *problem);

/* options_given(options, name): whether a flag, the environment or the script set it; `name` with dashes. */
bool options_given(const struct options *options, const char *name);

/* options_forced(options, name): whether a flag or the environment set it, so that the script cannot. */
bool options_forced(const struct options *options, const char *name);

/* options_print(out, command): the part of --help that lists the options of `command`. */
void options_print(FILE *out, enum command command);

#endif
