#ifndef PGQ_TALLY_H
#define PGQ_TALLY_H

#include <stdbool.h>
#include <stdint.h>

/* How many jobs of a queue ended, and how long they waited and ran, since this was last written to pgq_stats. A zeroed
 * tally has counted nothing. */

/* Bucket i counts times of less than 2^i milliseconds that no earlier bucket counts; the last one counts the rest. */
enum { TALLY_BUCKETS = 32 };

struct tally {
  int64_t completed, retried, failed, snoozed;
  int64_t cancelled;       /* these waited and ran for no time here */
  int64_t wait_us, run_us; /* sums */
  int64_t waits[TALLY_BUCKETS], runs[TALLY_BUCKETS];
};

struct batch;

/* tally_batch(batch): the outcomes of the batch are committed: counts the jobs that have ended, in the tallies of their
 * queues. Returns how many these are. */
int tally_batch(const struct batch *batch);

/* tally_is_empty(tally): nothing was counted. tally_subtract(tally, written): what `written` has counted is in the
 * database. */
bool tally_is_empty(const struct tally *tally);
void tally_subtract(struct tally *tally, const struct tally *written);

/* tally_add(tally, other): adds what `other` has counted. */
void tally_add(struct tally *tally, const struct tally *other);

/* tally_bucket(us): the index of the bucket for that many microseconds. */
int tally_bucket(int64_t us);

#endif
