#include "region.h"

/* If claims bring fewer jobs than this, their workers skip few rows. */
enum { JOBS_LEAST = 8 };

/* How many claims a region is long. */
enum { REGION_CLAIMS = 4 };

/* How many full claims show that a queue is busy. */
enum { FULL_LEAST = 2 };

/* How long a worker that is alone waits before it asks again. */
enum { ALONE_MS = 1000 };

/* Jobs before a place where the worker was this long ago were left behind by others. */
enum { MARK_MS = 500 };

/* The distance of jobs is the least that was seen, and grows by a fiftieth with each claim. */
#define GROWTH 1.02

static const struct place LEAST = {INT64_MIN, INT64_MIN};

static bool is_before(struct place a, struct place b) {
  return a.us != b.us ? a.us < b.us : a.id < b.id;
}

void region_leave(struct region *region) {
  region->anew = region->anew || region->inside;
  region->left = region->left || region->inside;
  region->inside = region->has_next = region->sweep = region->beyond = false;
  region->full = 0;
}

struct place region_enter(struct region *region, struct place floor, int64_t now_ms) {
  if (!region->has_next || region->beyond || region_has(region, floor))
    return floor;
  if (!region->inside) {
    region->got = floor;
    region->mark = region->old_mark = LEAST;
    region->marked_ms = now_ms - MARK_MS;
  }
  region->inside = true;
  region->has_next = region->left = false;
  region->of_ids = region->next_of_ids;
  region->end = region->next_end;
  struct place begin = is_before(floor, region->next_begin) ? region->next_begin : floor;
  if (now_ms - region->marked_ms >= MARK_MS) {
    region->old_mark = region->mark;
    region->mark = begin;
    region->marked_ms = now_ms;
  }
  return begin;
}

bool region_has(const struct region *region, struct place place) {
  return region->inside && is_before(place, region->end);
}

static void learn(struct region *region, const struct region_claim *claim) {
  region->by_id = claim->first.us == claim->last.us;
  double *known = region->by_id ? &region->ids_per_job : &region->us_per_job;
  double seen = region->by_id ? (double)claim->last.id - (double)claim->first.id
                              : (double)claim->last.us - (double)claim->first.us;
  seen /= claim->count - 1;
  *known = *known > 0 && seen > *known * GROWTH ? *known * GROWTH : seen;
}

bool region_saw(struct region *region, const struct region_claim *claim) {
  if (claim->swept && claim->full && is_before(claim->last, region->old_mark))
    region_leave(region); /* there is more before all regions than one sweep brings */
  if (claim->swept && region->inside)
    return false;
  region->full = claim->full ? region->full + 1 : 0;
  if (claim->full && claim->count >= JOBS_LEAST)
    learn(region, claim);
  region->beyond = false;
  if (region->inside)
    region->got = claim->last;
  return true;
}

struct place region_end(struct region *region, struct place floor, struct place end, bool empty) {
  bool same = region->end.us == end.us && region->end.id == end.id;
  if (!same || !region_has(region, floor)) /* another claim has moved on meanwhile */
    return floor;
  region->beyond = empty;
  return end;
}

struct place region_swept(struct region *region, struct place floor) {
  bool back = region->left && !region->inside && is_before(region->got, floor);
  region->left = region->left && region->inside;
  return back ? region->got : floor;
}

bool region_wants(const struct region *region, struct place floor, int jobs, int64_t now_ms) {
  if (now_ms < region->ask_at_ms || region->has_next || jobs < JOBS_LEAST || floor.us == INT64_MIN)
    return false;
  return (region->inside || region->full >= FULL_LEAST) &&
         (region->by_id ? region->ids_per_job : region->us_per_job) > 0;
}

struct place region_asked(struct region *region, struct place floor, int jobs, int64_t *ids, int64_t *us) {
  *ids = region->by_id ? (int64_t)(REGION_CLAIMS * jobs * region->ids_per_job) : 0;
  *us = region->by_id ? 0 : (int64_t)(REGION_CLAIMS * jobs * region->us_per_job) + 1;
  region->ask_at_ms = INT64_MAX;
  return region_has(region, floor) ? region->end : floor;
}

void region_answered(struct region *region, struct place end, int64_t ids, int64_t us, int64_t now_ms) {
  region->ask_at_ms = now_ms;
  region->shared = true;
  if (!region->inside && region->full < FULL_LEAST) /* the worker has come to the end of the queue meanwhile */
    return;
  region->has_next = true;
  region->anew = false;
  region->next_of_ids = ids > 0;
  region->next_end = (struct place){end.us, ids > 0 ? end.id : INT64_MIN};
  region->next_begin = (struct place){end.us - us, ids > 0 ? end.id - ids + 1 : INT64_MIN};
}

void region_denied(struct region *region, int64_t now_ms) {
  region_leave(region);
  region->shared = false;
  region->ask_at_ms = now_ms + ALONE_MS;
}

void region_forget(struct region *region) {
  *region = (struct region){.ask_at_ms = region->ask_at_ms};
}
