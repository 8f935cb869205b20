#ifndef PGQ_SEARCH_H
#define PGQ_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How far a command searches when no index knows which jobs it looks for. It asks in rounds, each of which begins anew
 * and may read more rows than the one before, until it has found enough, or the next round would take too long. So a
 * search takes about half a second on any machine, and reads as much as can be read in that time.
 *
 *     search_begin(&search, SEARCH_MS);
 *     do
 *       ask with search.rows
 *     while (there may be more, and search_goes_on(&search));
 */
struct search {
  int64_t rows; /* how many rows this round may read */

  /* private */
  int64_t round_began_ms, until_ms;
};

/* SEARCH_MS: how long a command may search. SEARCH_FIRST: the rows of the first round, whatever time it takes.
 * SEARCH_MOST: the most rows of a round. */
enum { SEARCH_MS = 500, SEARCH_FIRST = 10000, SEARCH_MOST = 100000 };

/* search_begin(search, ms): begins a search that may take about so many milliseconds. */
void search_begin(struct search *search, int64_t ms);

/* search_goes_on(search): after a round that has not found enough. Returns whether there is time for another one, whose
 * number of rows is then set. */
bool search_goes_on(struct search *search);

#endif
