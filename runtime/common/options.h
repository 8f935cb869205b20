#ifndef PGQ_OPTIONS_H
#define PGQ_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "log.h"

/*
 * All options. The table in option_rows.c defines the command line, the environment variables, the settings of
 * pgq.configure(), --help and the checks. An option on the command line overrides the environment, which overrides the
 * script, which overrides the default.
 */

/* The commands; one bit each, since an option may belong to several. */
enum command {
  COMMAND_WORKER = 1 << 0,
  COMMAND_ENQUEUE = 1 << 1,
  COMMAND_MIGRATE = 1 << 2,
  COMMAND_DEV = 1 << 3,
  COMMAND_CANCEL = 1 << 4,
  COMMAND_RETRY = 1 << 5,
  COMMAND_DELETE = 1 << 6,
  COMMAND_EDIT = 1 << 7,
  COMMAND_PAUSE = 1 << 8,
  COMMAND_RESUME = 1 << 9,
  COMMAND_JOBS = 1 << 10,
  COMMAND_QUEUES = 1 << 11,
  COMMAND_SHOW = 1 << 12,
  COMMAND_WORKERS = 1 << 13,
  COMMAND_STATS = 1 << 14,
  COMMAND_WHY = 1 << 15,
  COMMAND_DOCTOR = 1 << 16,
  COMMAND_QUIET = 1 << 17,
  COMMAND_STOP = 1 << 18,
  COMMAND_RELOAD = 1 << 19,
  COMMAND_TOP = 1 << 20,
};

/* The values of --pooler: which connection pooler is between the worker and the server. */
enum pooler {
  POOLER_AUTO,        /* the first connection finds out whether there is one, and treats it as POOLER_TRANSACTION */
  POOLER_NONE,        /* the connections are direct */
  POOLER_SESSION,     /* a client keeps its session until it disconnects */
  POOLER_TRANSACTION, /* a client has a session for one transaction */
};

/* The values of --group-by: what `pgq-lua jobs` lists instead of jobs. */
enum group_by { GROUP_BY_NONE, GROUP_BY_ERROR };

struct options {
  char *db;            /* connection string, or NULL for libpq's own PG* variables and service file */
  int64_t executors;   /* 0: one per CPU core */
  int64_t concurrency; /* of an executor: jobs in flight while their handlers wait */
  int64_t pool;        /* of an executor: connections that its handlers share */
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
  int64_t keep_attempts_ms;  /* how long rows of pgq_attempts are kept; 0: for ever */
  int64_t keep_completed_ms; /* how long preserved jobs are kept; 0: for ever */
  int64_t keep_failed_ms;    /* how long failed and cancelled jobs are kept; 0: for ever */
  bool keep_all_attempts;    /* attempts that did not fail get rows, too */
  char *listen;              /* the address of the HTTP server; NULL or "": there is none */
  bool drain;
  int pooler; /* enum pooler */
  bool no_prepare;
  bool dev;
  bool watch;
  int log_format;   /* enum log_format */
  int log_level;    /* enum log_level */
  int64_t delay_ms; /* enqueue; -1: not given */
  char *after;
  char *retry_waits;
  bool lines;
  bool force;  /* migrate */
  char *queue; /* this and the following options select jobs: see runtime/commands/selection.h */
  char *state;
  char *error;
  char *since;
  char *before;
  char *meta;
  bool all;
  bool off;
  int64_t limit; /* 0: none */
  bool dry_run;
  bool yes;
  bool keep_waits; /* retry */
  int64_t lock_wait_ms;
  bool json;      /* lists */
  int64_t for_ms; /* pause; 0: not given */
  char *new_data; /* edit */
  char *reason;
  int group_by;        /* jobs: enum group_by */
  int64_t interval_ms; /* top */
  bool data;           /* show */
  char *data_file;     /* show, edit */
  bool version;
  bool help;
  unsigned char source[64]; /* for each row of the table, where the value comes from: enum option_source in options.c */
};

/* A message for the user about an option that is wrong. */
struct option_problem {
  char message[512];
};

/* options_init(options): sets the defaults. options_free(options): frees the texts and sets them to NULL. */
void options_init(struct options *options);
void options_free(struct options *options);

/* options_from_environment(options, problem): reads the variables. Returns 0, or -1 and a problem that names the
 * variable. */
int options_from_environment(struct options *options, struct option_problem *problem);

/*
 * options_from_arguments(options, argc, argv, command, mixed, problem): reads options from argv[1] on. Where several
 * options have the same name, the one of `command` is meant. If `mixed`, options may stand between other words, which
 * are moved after the options; else reading stops at the first other word. Returns the index of the first word that is
 * no option, or -1 and a problem.
 */
int options_from_arguments(struct options *options, int argc, char **argv, enum command command, bool mixed,
                           struct option_problem *problem);

/*
 * options_from_script(options, name, value, problem): sets an option as pgq.configure{ name = value } does; the name
 * has underscores. Does nothing if the command line or the environment has set the option. `options` may be NULL: then
 * name and value are only checked. Returns 0, or -1 and a problem.
 */
int options_from_script(struct options *options, const char *name, const char *value, struct option_problem *problem);

/* options_check_command(options, command, problem): returns 0, or -1 and a problem if the command line has an option
 * that `command` does not take. */
int options_check_command(const struct options *options, enum command command, struct option_problem *problem);

/* options_command_name(bit): the name of the command whose bit this is, such as "pgq-lua jobs"; "a worker" for the
 * first. NULL if there is no such command. */
const char *options_command_name(int bit);

/* options_forced(options, name): whether the command line or the environment has set the option, so that the script
 * cannot. `name` has dashes and must be in the table. */
bool options_forced(const struct options *options, const char *name);

/*
 * options_each_changed(options, each, context): calls each(context, name, value, is_word) for each option of a worker
 * that was given a value other than its default. The value is a number, or `true`, or a word (`is_word`), such as the
 * duration 1h0m0s. The connection string is left out, since it may have a password.
 */
void options_each_changed(const struct options *options,
                          void (*each)(void *context, const char *name, const char *value, bool is_word),
                          void *context);

/* options_print(out, command): writes the part of --help that lists the options of `command`. */
void options_print(FILE *out, enum command command);

/* options_print_text(out, indent, text): writes the text and a newline, wrapped at 80 columns, each line indented. */
void options_print_text(FILE *out, int indent, const char *text);

#endif
