#include "sweep.h"

#include "growing_wait.h"

enum { SHARE = 40 };         /* sweeps get at most 1/SHARE of the time */
enum { INTERVAL_MS = 1000 }; /* how often to sweep while claims bring jobs */

/* How long to wait while another worker sweeps. */
enum { DENIED_LEAST_MS = 40, DENIED_MOST_MS = 640 };

int64_t sweep_wait_ms(const struct sweep *sweep, int64_t now_ms) {
  return sweep->allowed_ms > now_ms ? sweep->allowed_ms - now_ms : 0;
}

bool sweep_is_wanted(const struct sweep *sweep, int64_t now_ms) {
  return now_ms - sweep->began_ms >= INTERVAL_MS && sweep_wait_ms(sweep, now_ms) == 0;
}

void sweep_begin(struct sweep *sweep, int64_t now_ms) {
  sweep->began_ms = now_ms;
}

void sweep_deny(struct sweep *sweep, int64_t now_ms) {
  sweep->denied_ms = growing_wait_after(sweep->denied_ms, DENIED_LEAST_MS, DENIED_MOST_MS);
  if (now_ms + sweep->denied_ms > sweep->allowed_ms)
    sweep->allowed_ms = now_ms + sweep->denied_ms;
}

void sweep_saw(struct sweep *sweep, int64_t now_ms, int64_t took_ms, bool swept) {
  if (!swept) {
    sweep->usual_ms = (sweep->usual_ms * 7 + (double)took_ms) / 8;
    return;
  }
  sweep->denied_ms = 0;
  int64_t allowed_ms = now_ms + (int64_t)((SHARE - 1) * ((double)took_ms - sweep->usual_ms));
  if (allowed_ms > sweep->allowed_ms)
    sweep->allowed_ms = allowed_ms;
}
