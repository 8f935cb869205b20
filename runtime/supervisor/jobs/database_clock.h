#ifndef PGQ_DATABASE_CLOCK_H
#define PGQ_DATABASE_CLOCK_H

#include <stdint.h>

/* What the database's clock shows, as this worker knows it from answers of the database; to a few milliseconds. Before
 * the first answer it is this machine's clock. */

/* database_clock_set(us): the database has just said that it is this time, in microseconds since 2000. */
void database_clock_set(int64_t us);

/* database_clock_at(at_us): the database's time, in microseconds since 2000, at the moment `at_us` of clock_us(). */
int64_t database_clock_at(int64_t at_us);

#endif
