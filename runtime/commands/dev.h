#ifndef PGQ_DEV_H
#define PGQ_DEV_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The private Postgres of `pgq-lua --dev`. It lives in ./.pgq-dev:
 *
 *   data/    the cluster; when pgq-lua runs as root it belongs to an unprivileged user, for Postgres refuses root
 *   log      what initdb and the server had to say
 *   socket   the path of the folder with the server's unix socket, a new one under /tmp for every start: the path of
 *            a checkout may be longer than a socket's may be
 *   lock     locked while the server is looked for, started or stopped
 *
 * The server listens on the unix socket only, and goes on after the command that started it.
 */
struct dev_server {
  char conninfo[256]; /* for libpq */
  bool created;       /* no pgq-lua tables yet: the cluster is new, or nobody has migrated it so far */
};

/* Room that a message with the last lines of the log may need. */
#define DEV_MESSAGE_SIZE 4096

/*
 * dev_ensure(server, message, size): makes sure that the server of the current folder runs and takes connections;
 * creates the cluster and starts the server as needed, which takes some seconds the first time. Returns 0 and fills
 * *server, or -1 with the reason, and what to do about it, in `message` (a NUL-terminated text of at most `size` bytes;
 * it may have several lines).
 */
int dev_ensure(struct dev_server *server, char *message, size_t size) __attribute__((warn_unused_result));

/*
 * dev_command(argc, argv): `pgq-lua dev start|stop|status|conninfo`. argv[0] is "dev". Returns the exit status: 0, 1 on
 * failure with a message on stderr, 2 for wrong usage, and 3 from `status` when the server is not running.
 *
 * start and conninfo start the server if need be, stop is content when nothing runs.
 */
int dev_command(int argc, char **argv);

#endif
