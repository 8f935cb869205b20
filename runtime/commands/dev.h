#ifndef PGQ_DEV_H
#define PGQ_DEV_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The private Postgres server of `pgq-lua --dev`. Its files are in ./.pgq-dev:
 *
 *   data/    the database cluster; if pgq-lua runs as root, it belongs to an unprivileged user, since Postgres refuses
 *            to run as root
 *   log      the output of initdb and of the server
 *   socket   the path of the folder with the server's unix socket; each start creates a new one in /tmp, since the path
 *            of ./.pgq-dev may be longer than a socket's path may be
 *   created  the number and the time of birth of ./.pgq-dev, which show that it was created here
 *   lock     locked while a command looks for the server, starts it or stops it
 *
 * The server listens on the unix socket only, and keeps running after the command that started it.
 */
struct dev_server {
  char conninfo[256]; /* for libpq */
  bool created;       /* the cluster has no table pgq_jobs yet: it has to be migrated */
};

/* Enough bytes for a message with the last lines of the log. */
#define DEV_MESSAGE_SIZE 4096

/*
 * dev_ensure(server, message, size): makes sure that the server of the current folder runs and accepts connections.
 * Creates the cluster and starts the server if necessary, which takes some seconds. Removes libpq's variables from the
 * environment, except PGAPPNAME and PGCONNECT_TIMEOUT. Returns 0 and fills *server; or -1,
 * and `message` (at most `size` bytes with the NUL; may have several lines) has the reason and what to do.
 */
int dev_ensure(struct dev_server *server, char *message, size_t size) __attribute__((warn_unused_result));

/*
 * dev_command(argc, argv): `pgq-lua dev start|stop|status|conninfo`; argv[0] is "dev". `start` and `conninfo` start the
 * server if it is not running; `stop` succeeds if it is not running. Returns the exit status: 0; 1 on failure, with a
 * message on stderr; 2 for wrong usage; 3 from `status` if the server is not running.
 */
int dev_command(int argc, char **argv);

#endif
