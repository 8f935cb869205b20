#ifndef PGQ_CONNINFO_H
#define PGQ_CONNINFO_H

/* Connection strings, before libpq gets them. Shared by the Lua module and the program; no part of the public
 * interface. */

#include <stdbool.h>

/* What to tell about a string that cannot be read. It repeats nothing of it: what libpq says of one may quote a piece
 * of a password. */
#define CONNINFO_HELP                                                                                                  \
  "the connection string cannot be read; write \"host=db.example.com dbname=app user=app\" or "                        \
  "\"postgres://app@db.example.com:5432/app\", in a URI with %-escapes for special characters in names and passwords"

/* Says whether libpq can read the string (0) or not (-1), and if so whether it, or the environment, sets how long
 * connecting may take. NULL and the empty string leave all to the environment; a single word is a database's name, as
 * for psql. A URI in which a password may end elsewhere than its author thought counts as unreadable: libpq would show
 * the rest of the password as a host or a port. */
int conninfo_inspect(const char *conninfo, bool *has_timeout) __attribute__((warn_unused_result));

#endif
