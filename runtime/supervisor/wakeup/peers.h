#ifndef PGQ_PEERS_H
#define PGQ_PEERS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The peers of a worker: the other workers that serve the same queues. All of them hear the same rings. The ring's
 * number orders them, each ring in another way, and so every worker knows without asking whether it is one of the few
 * that look at once, or after which wait it looks.
 *
 * The list is some seconds old. A worker that is not in it yet, or that has ended, makes more or fewer workers look at
 * once; in either case all others look a little later, unless one of them has answered. A zeroed list is empty.
 */
struct peers {
  struct peer *list;
  int count;
};

/* peers_take(peers, result): replaces the list by the rows of STATEMENT_DOORBELL_PEERS. */
void peers_take(struct peers *peers, const PGresult *result);

/* peers_free(peers): empties the list. */
void peers_free(struct peers *peers);

/* peers_share(peers): whether there are so many peers that some of them wait. */
bool peers_share(const struct peers *peers);

/* peers_wait_ms(peers, own_id, ring): how long the worker of that id waits before it looks for the jobs of a ring. */
int64_t peers_wait_ms(const struct peers *peers, int64_t own_id, int64_t ring);

/* peers_include(peers, pid): whether the server process `pid` has the control session of a peer. */
bool peers_include(const struct peers *peers, int pid);

#endif
