/*
 * pgq-lua: the program. Reads the options, finds the command and calls it: the supervisor for a worker script, a
 * function of runtime/commands for any other command.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "ask_workers.h"
#include "cancel.h"
#include "conninfo.h"
#include "dev.h"
#include "doctor.h"
#include "edit.h"
#include "enqueue.h"
#include "executor.h"
#include "jobs.h"
#include "memory.h"
#include "migrate.h"
#include "nearest.h"
#include "options.h"
#include "pause.h"
#include "queues.h"
#include "refusal.h"
#include "retry.h"
#include "show.h"
#include "signal_reset.h"
#include "supervisor.h"
#include "throughput.h"
#include "top.h"
#include "version.h"
#include "why.h"
#include "workers.h"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

struct command_row {
  const char *name;
  enum command command;
  const char *usage;
  const char *help;
  int (*run)(const struct options *options, int argc, char **argv); /* returns the exit status */
};

static int run_migrate(const struct options *options, int argc, char **argv) {
  if (argc == 0)
    return migrate_command(options);
  return refuse("migrate", "migrate [options]", "unexpected argument '%.100s'", argv[0]);
}

static int run_dev(const struct options *options, int argc, char **argv) {
  (void)options;
  signal_reset();
  return dev_command(argc + 1, argv - 1); /* argv[-1] is "dev" */
}

static const struct command_row commands[] = {
    {"enqueue", COMMAND_ENQUEUE, "enqueue [options] QUEUE [DATA | - | --lines]",
     "Enqueues a job and prints its id. DATA is the data of the job; with -, the data is read from standard input; "
     "without either, it is empty. With --lines, each line of standard input becomes a job.",
     enqueue_command},
    {"retry", COMMAND_RETRY, "retry [options] ID… | SELECTION",
     "Makes jobs due now, with fresh retries: jobs with these ids, or the failed ones that the options select.",
     retry_command},
    {"cancel", COMMAND_CANCEL, "cancel [options] ID… | SELECTION",
     "Cancels jobs: those with these ids, even running ones, or the waiting ones that the options select. Cancelled "
     "jobs "
     "are kept.",
     cancel_command},
    {"edit", COMMAND_EDIT, "edit [options] ID…",
     "Changes the data, the time, the retry waits or the queue of jobs that do not run.", edit_command},
    {"delete", COMMAND_DELETE, "delete [options] ID… | SELECTION",
     "Deletes jobs that have ended: those with these ids, or those that the options select.", delete_command},
    {"queues", COMMAND_QUEUES, "queues [options]",
     "Lists the queues: how many jobs each has in each state, how many are done per minute, who serves it, and what is "
     "in "
     "the way.",
     queues_command},
    {"pause", COMMAND_PAUSE, "pause [options] QUEUE",
     "Pauses a queue in all workers: no more of its jobs are begun, until the queue is resumed or --for is over. Jobs "
     "that run go on.",
     pause_command},
    {"resume", COMMAND_RESUME, "resume [options] QUEUE", "Ends the pause of a queue, and its backoff in every worker.",
     resume_command},
    {"jobs", COMMAND_JOBS, "jobs [options] [QUEUE]",
     "Lists jobs of one queue or of all: those that run, then those that are due or will be, then those that have "
     "ended. "
     "Options select jobs by their state, error, time and meta, or group the errors of failed jobs.",
     jobs_command},
    {"show", COMMAND_SHOW, "show [options] ID",
     "Prints what is known about a job: its state and times, its attempts with their errors, its data on request.",
     show_command},
    {"workers", COMMAND_WORKERS, "workers [options]",
     "Lists the workers: where each runs, what it does, its script, its executors with their jobs, and what is wrong.",
     workers_command},
    {"stats", COMMAND_STATS, "stats [options] [QUEUE]",
     "Lists, minute by minute, how many jobs of one queue or of all ended, and how long they waited and ran: in the "
     "last "
     "hour, or since --since.",
     stats_command},
    {"top", COMMAND_TOP, "top [options]",
     "Shows queues, jobs, workers and errors on the terminal, and reads them again every second. Keys sort, filter and "
     "page, and open what is selected; ? lists them. Changes nothing.",
     top_command},
    {"why", COMMAND_WHY, "why [options] ID | QUEUE",
     "Says why a job does not run, or what the jobs of a queue wait for, and who is in the way. A number is the id of "
     "a "
     "job; with --queue it is the name of a queue.",
     why_command},
    {"quiet", COMMAND_QUIET, "quiet [options] WORKER… | --all",
     "Makes workers claim nothing more and finish their jobs; with --off, they claim jobs again. WORKER is host:pid or "
     "an id.",
     quiet_command},
    {"stop", COMMAND_STOP, "stop [options] WORKER… | --all", "Stops workers in good order, as SIGTERM does.",
     stop_command},
    {"reload", COMMAND_RELOAD, "reload [options] WORKER… | --all",
     "Makes workers reload their scripts, as SIGHUP does, without a gap in claiming.", reload_command},
    {"doctor", COMMAND_DOCTOR, "doctor [options]",
     "Checks the server, the tables, the workers and the queues, and prints for each check whether it is ok, what was "
     "found, and the command that repairs it. Changes nothing.",
     doctor_command},
    {"migrate", COMMAND_MIGRATE, "migrate [options]",
     "Creates the tables and functions of pgq-lua, or updates older ones.", run_migrate},
    {"dev", COMMAND_DEV, "dev start | stop | status | conninfo",
     "Starts or stops the private Postgres server of --dev, whose files are in ./.pgq-dev, or prints its status or its "
     "connection string.",
     run_dev},
};

static const struct command_row worker_row = {
    NULL, COMMAND_WORKER, "[options] worker.lua [args…]",
    "Runs a worker: claims jobs of the queues that worker.lua registers, and runs their handlers.", NULL};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(const struct command_row *row) {
  printf("usage: pgq-lua %s\n", row->usage);
  if (row == &worker_row)
    for (size_t i = 0; i < COMMANDS; i++)
      printf("       pgq-lua %s\n", commands[i].usage);
  putchar('\n');
  options_print_text(stdout, 0, row->help);
  if (row == &worker_row)
    puts("\ncommands; 'pgq-lua COMMAND --help' lists the options of one:");
  for (size_t i = 0; row == &worker_row && i < COMMANDS; i++) {
    printf("  %s\n", commands[i].name);
    options_print_text(stdout, 8, commands[i].help);
  }
  printf("\noptions; the command line overrides the environment variable in [brackets]%s:\n",
         row == &worker_row ? ",\nwhich overrides pgq.configure() in the script" : "");
  options_print(stdout, row->command);
  puts("\nA DURATION is a number of seconds, or a text such as 1h30m, 10s or 250ms.");
}

static int usage_error(const struct command_row *row, const char *message) {
  const char *name = row->name ? row->name : "";
  fprintf(stderr, "pgq-lua%s%s: %s\nusage: pgq-lua %s\ntry 'pgq-lua%s%s --help'\n", *name ? " " : "", name, message,
          row->usage, *name ? " " : "", name);
  return STATUS_USAGE;
}

static const struct command_row *find_command(const char *word) {
  for (size_t i = 0; word && i < COMMANDS; i++)
    if (strcmp(word, commands[i].name) == 0)
      return &commands[i];
  return &worker_row;
}

/* --dev: makes sure that the private server runs and has the tables, and takes it as the database. */
static int use_dev_server(struct options *options) {
  struct dev_server server;
  char message[DEV_MESSAGE_SIZE];
  struct option_problem problem;
  char *arguments[] = {"", "--db", server.conninfo, NULL};
  signal_reset();
  if (dev_ensure(&server, message, sizeof message) != 0) {
    fprintf(stderr, "pgq-lua --dev: %s\n", message);
    return -1;
  }
  options_from_arguments(options, 3, arguments, COMMAND_WORKER, false, &problem);
  return server.created && migrate_quietly(options) != 0 ? -1 : 0;
}

/* Returns the name of the command that is most like the word, or NULL if none is. */
static const char *nearest_command(const char *word) {
  const char *names[COMMANDS];
  for (size_t i = 0; i < COMMANDS; i++)
    names[i] = commands[i].name;
  return nearest_word(word, names, COMMANDS);
}

static int run_worker(struct options *options, int argc, char **argv, int script) {
  char message[512];
  if (script >= argc)
    return usage_error(&worker_row, "the script is missing; name the Lua file that registers queues");
  if (access(argv[script], R_OK) != 0) {
    int error = errno;
    const char *nearest = nearest_command(argv[script]);
    snprintf(message, sizeof message, "cannot read the script '%.300s': %s%s%s%s", argv[script], strerror(error),
             nearest ? "; the nearest command is '" : "", nearest ? nearest : "", nearest ? "'" : "");
    return usage_error(&worker_row, message);
  }
  signal_reset();
  if (options->dev && use_dev_server(options) != 0)
    return STATUS_FAILED;
  return supervisor_run(options, argc, argv, script);
}

/* Hides the values of --db that may have a password. `argv` is the kernel's: its texts stand in the list of processes.
 */
static void hide_passwords(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    char *value = strncmp(argv[i], "--db=", 5) == 0 ? argv[i] + 5 : strcmp(argv[i], "--db") == 0 ? argv[i + 1] : NULL;
    if (value && conninfo_has_secret(value))
      arguments_hide(value);
  }
}

static int run(struct options *options, int argc, char **argv) {
  struct option_problem problem;
  char explained[CONNINFO_MESSAGE_SIZE];
  bool has_timeout;
  if (options_from_environment(options, &problem) != 0)
    return usage_error(&worker_row, problem.message);
  int word = options_from_arguments(options, argc, argv, COMMAND_WORKER, false, &problem);
  if (word < 0)
    return usage_error(&worker_row, problem.message);
  const struct command_row *row = find_command(argv[word]);
  if (row != &worker_row) { /* options and words of a command may stand in any order */
    int more = options_from_arguments(options, argc - word, argv + word, row->command, true, &problem);
    if (more < 0)
      return usage_error(row, problem.message);
    word += more;
  }
  if (options->help) {
    print_help(row);
    return 0;
  }
  if (options->version) {
    puts("pgq-lua " PGQ_LUA_VERSION);
    return 0;
  }
  if (options_check_command(options, row->command, &problem) != 0)
    return usage_error(row, problem.message);
  if (conninfo_inspect(options->db, &has_timeout) != 0)
    return usage_error(row, conninfo_explain(options->db, explained));
  if (row == &worker_row)
    return run_worker(options, argc, argv, word);
  if (options->dev && row->command != COMMAND_DEV && use_dev_server(options) != 0)
    return STATUS_FAILED;
  return row->run(options, argc - word, argv + word);
}

/* If the program was started with closed standard descriptors, files that it opens must not get their numbers. */
static void open_standard_descriptors(void) {
  int fd;
  do
    fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0)
    close(fd);
}

int main(int argc, char **argv) {
  struct options options;
  open_standard_descriptors();
  if (argc > 1 && strcmp(argv[1], "executor") == 0)
    return executor_main(argc > 2 ? argv[2] : NULL);
  options_init(&options);
  char **arguments = arguments_copy(argc, argv);
  hide_passwords(argc, argv);
  int status = run(&options, argc, arguments);
  options_free(&options);
  arguments_free(argc, arguments);
  return status;
}
