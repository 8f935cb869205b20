#include "search.h"

#include "clock.h"

void search_begin(struct search *search, int64_t ms) {
  int64_t now_ms = clock_ms();
  *search = (struct search){.rows = SEARCH_FIRST, .round_began_ms = now_ms, .until_ms = now_ms + ms};
}

bool search_goes_on(struct search *search) {
  int64_t now_ms = clock_ms();
  int64_t took_ms = now_ms - search->round_began_ms, left_ms = search->until_ms - now_ms;
  int64_t times = left_ms / (took_ms > 0 ? took_ms : 1);
  if (search->rows >= SEARCH_MOST || times < 2)
    return false;
  search->rows = times < SEARCH_MOST / search->rows ? search->rows * times : SEARCH_MOST;
  search->round_began_ms = now_ms;
  return true;
}
