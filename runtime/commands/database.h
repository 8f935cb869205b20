#ifndef PGQ_DATABASE_H
#define PGQ_DATABASE_H

#include <libpq-fe.h>

#include "options.h"

/*
 * database_connect(options): connects to the database of --db, with client encoding UTF-8 and without notices. Tries
 * once, or until --connect-timeout is over. Blocks. Returns the connection, which the caller closes with PQfinish(), or
 * NULL and a message on stderr.
 */
PGconn *database_connect(const struct options *options);

/* database_connect_as(options, application): the same, with a name that pg_stat_activity shows unless the connection
 * string has another one. */
PGconn *database_connect_as(const struct options *options, const char *application);

#endif
