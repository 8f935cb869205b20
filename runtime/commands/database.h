#ifndef PGQ_DATABASE_H
#define PGQ_DATABASE_H

#include <libpq-fe.h>

#include "options.h"

/*
 * database_connect(options): a connection for a command that does one thing, with client encoding UTF-8. With
 * --connect-timeout it is tried again until that time is over. NULL, with a message on stderr, when there is none. The
 * caller ends it with PQfinish().
 */
PGconn *database_connect(const struct options *options);

#endif
