#include "token.h"

#include <sys/random.h>

#include "clock.h"

/* The bits of the worker's id in a token; see end_dead_worker.sql. A token without a worker has a bit above them. */
static const int64_t WORKER_MASK = 0x3fffffff, NO_WORKER = 0x40000000;

static const int64_t COUNTER_MOST = 0xffffffff;

static int64_t worker = -1; /* upper half of the tokens; negative: not known yet */
static int64_t counter = 1;

void token_set_worker(int64_t id) {
  worker = id & WORKER_MASK;
}

static void begin_without_worker(void) {
  int64_t bits;
  if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
    bits = clock_us();
  worker = NO_WORKER | (bits & WORKER_MASK);
}

int64_t token_next(int count) {
  if (worker < 0)
    begin_without_worker();
  if (counter + count > COUNTER_MOST)
    counter = 1;
  int64_t token = worker << 32 | counter;
  counter += count;
  return token;
}
