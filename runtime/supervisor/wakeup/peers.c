#include "peers.h"

#include <stdlib.h>

#include "binary.h"
#include "memory.h"
#include "statements.h"

/* Up to so many workers all look at once. Of more, FIRST look at once, and SECOND soon after, since the first may be
 * busy. */
enum { ALL_AT_ONCE = 3, FIRST = 2, SECOND = 4, SECOND_LEAST_MS = 8, SECOND_STEP_MS = 4 };

/* The waits of all others: long enough for an answer on a busy machine, and each a millisecond longer than the one
 * before. In large fleets they lie closer together. */
enum { LAST_LEAST_MS = 30, LAST_SPREAD_MS = 45 };

struct peer {
  int64_t id; /* of its row */
  int pid;    /* the server process of its control session */
};

void peers_take(struct peers *peers, const PGresult *result) {
  peers->count = PQntuples(result);
  peers->list = memory_resize(peers->list, ((size_t)peers->count + 1) * sizeof *peers->list);
  for (int i = 0; i < peers->count; i++)
    peers->list[i] =
        (struct peer){.id = result_i64(result, i, DOORBELL_PEERS_ID), .pid = result_i32(result, i, DOORBELL_PEERS_PID)};
}

void peers_free(struct peers *peers) {
  free(peers->list);
  *peers = (struct peers){0};
}

bool peers_share(const struct peers *peers) {
  return peers->count + 1 > ALL_AT_ONCE;
}

/* The place of a worker in the order of a ring: the finisher of MurmurHash3, which mixes all bits. */
static uint64_t place_of(int64_t id, int64_t ring) {
  uint64_t bits = (uint64_t)ring ^ (uint64_t)id * 0x9e3779b97f4a7c15u;
  bits = (bits ^ bits >> 33) * 0xff51afd7ed558ccdu;
  bits = (bits ^ bits >> 33) * 0xc4ceb9fe1a85ec53u;
  return bits ^ bits >> 33;
}

int64_t peers_wait_ms(const struct peers *peers, int64_t own_id, int64_t ring) {
  uint64_t own = place_of(own_id, ring);
  int before = 0, last = peers->count + 1 - FIRST - SECOND;
  for (int i = 0; i < peers->count; i++)
    before += place_of(peers->list[i].id, ring) < own;
  if (before < FIRST || !peers_share(peers))
    return 0;
  if (before < FIRST + SECOND)
    return SECOND_LEAST_MS + (int64_t)(before - FIRST) * SECOND_STEP_MS;
  int64_t nth = before - FIRST - SECOND;
  return LAST_LEAST_MS + (last > LAST_SPREAD_MS ? nth * LAST_SPREAD_MS / last : nth);
}

bool peers_include(const struct peers *peers, int pid) {
  for (int i = 0; i < peers->count; i++)
    if (peers->list[i].pid == pid)
      return true;
  return false;
}
