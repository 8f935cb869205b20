#ifndef PGQ_CONNINFO_H
#define PGQ_CONNINFO_H

/* Checks of connection strings, before libpq gets them. Shared by the Lua module and the program; not part of the
 * public interface. */

#include <stdbool.h>

/* The message for a string that cannot be read. It repeats no part of the string, unlike libpq's own message, which may
 * contain a part of a password. */
#define CONNINFO_HELP                                                                                                  \
  "the connection string cannot be read; write \"host=db.example.com dbname=app user=app\" or "                        \
  "\"postgres://app@db.example.com:5432/app\", in a URI with %-escapes for special characters in names and passwords"

/* conninfo_inspect(conninfo, has_timeout): returns 0 if libpq can read the string, and sets *has_timeout to whether the
 * string or the environment limits the time for connecting. NULL or "": the environment sets everything. A single word
 * is the name of a database, as for psql. Returns -1 if libpq cannot read the string, or would misread an unescaped
 * character in the password of a URI: it would then show the rest of the password as a host or port. */
int conninfo_inspect(const char *conninfo, bool *has_timeout) __attribute__((warn_unused_result));

/* conninfo_has_secret(conninfo): whether the string may have a password in it: it has one, or cannot be read. */
bool conninfo_has_secret(const char *conninfo);

/* Enough bytes for CONNINFO_HELP and the name of a parameter. */
enum { CONNINFO_MESSAGE_SIZE = 512 };

/* conninfo_explain(conninfo, message): for a string that conninfo_inspect() has rejected: CONNINFO_HELP, or a message
 * that names the unknown parameter of a URI. Returns `message`. */
const char *conninfo_explain(const char *conninfo, char message[CONNINFO_MESSAGE_SIZE]);

#endif
