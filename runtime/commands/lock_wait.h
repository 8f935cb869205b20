#ifndef PGQ_LOCK_WAIT_H
#define PGQ_LOCK_WAIT_H

#include <signal.h>
#include <stdbool.h>

#include <libpq-fe.h>

/*
 * A statement of a command may wait for a row or a table that another session has locked. A second connection then asks
 * who that is, so that the command can say so while it waits, and when it gives up.
 */
struct lock_wait {
  PGconn *conn;        /* the session whose statements may wait */
  int pid;             /* the process number of that session on the server; 0: unknown, and nothing is asked */
  const char *command; /* for the messages: "pgq-lua COMMAND: …" */
  bool silent;         /* nothing is printed while the statement waits */
  int limit_ms;        /* how long the server lets the statement wait for a lock; for the message */
  /* NULL, or a flag that a signal handler sets: a statement that waits for a lock is then cancelled. Without a flag,
   * SIGINT and SIGTERM cancel the statement and end the process, unless they are ignored. */
  const volatile sig_atomic_t *interrupted;
  char holders[1600]; /* who was in the way when this was asked last, as the end of a sentence, or "" */
};

/*
 * lock_wait_result(wait): waits for the result of the statement that was sent on wait->conn, as PQexec() does, and
 * returns it; the caller frees it with PQclear(). If the statement waits for a lock after two seconds (or, if `silent`,
 * after less than one), sets `holders`, and says on stderr who has the lock, and what to do; again if it is somebody
 * else later. Blocks.
 */
PGresult *lock_wait_result(struct lock_wait *wait) __attribute__((warn_unused_result));

/* lock_wait_is_interrupted(wait): whether a statement must not be sent any more. */
bool lock_wait_is_interrupted(const struct lock_wait *wait);

#endif
