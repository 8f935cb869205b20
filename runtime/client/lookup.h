#ifndef PGQ_LOOKUP_H
#define PGQ_LOOKUP_H

#include <stddef.h>

/*
 * Looks up the addresses of a host name without blocking the caller, in a detached thread. A process has one thread for
 * each name at most: all look-ups of a name share it, also those that begin while it waits for a name server. Nobody
 * waits for the threads when the process exits. (libuv's own look-ups share a pool of four threads with all else that
 * uses it, and libuv joins these threads at exit.)
 */
struct lookup;

enum { LOOKUP_ADDRESSES_MOST = 16, LOOKUP_ADDRESS_SIZE = 64 };

/* lookup_start(host): begins. Returns NULL when there are no resources for it. */
struct lookup *lookup_start(const char *host);

/* lookup_fd(lookup): a descriptor that can be read when the look-up has ended. It stays the look-up's. */
int lookup_fd(const struct lookup *lookup);

/*
 * lookup_take(lookup, addresses, error): returns -1 as long as the look-up has not ended; otherwise the number of
 * addresses, as numbers in text, in the order in which they are to be tried. With 0, *error says why there are none.
 */
int lookup_take(const struct lookup *lookup, char addresses[LOOKUP_ADDRESSES_MOST][LOOKUP_ADDRESS_SIZE],
                const char **error);

/* lookup_free(lookup): also before the look-up has ended. NULL is allowed. */
void lookup_free(struct lookup *lookup);

#endif
