#include "region.h"

/* If claims bring fewer jobs than this, their workers skip few rows. */
enum { JOBS_LEAST = 8 };

/* How many claims a region is long. */
enum { REGION_CLAIMS = 2 };

/* How many full claims show that a queue is busy. */
enum { FULL_LEAST = 2 };

/* A claim asks for this part of its jobs at least, since a claim of a few jobs costs nearly as much as a large one. */
enum { PART_LEAST = 16 };

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

static void leave(struct region *region) {
  region->anew = region->anew || region->inside;
  region->inside = region->has_next = region->sweep = false;
  region->full = 0;
}

struct place region_enter(struct region *region, struct place floor, int64_t now_ms) {
  if (!region->has_next || (region->inside && is_before(floor, region->end)))
    return floor;
  if (!region->inside) {
    region->got = floor;
    region->mark = region->old_mark = LEAST;
    region->marked_ms = now_ms - MARK_MS;
  }
  region->inside = true;
  region->has_next = false;
  region->end = region->next_end;
  struct place begin = is_before(floor, region->next_begin) ? region->next_begin : floor;
  if (now_ms - region->marked_ms >= MARK_MS) {
    region->old_mark = region->mark;
    region->mark = begin;
    region->marked_ms = now_ms;
  }
  return begin;
}

int32_t region_limit(const struct region *region, struct place floor, int32_t most) {
  double left = most;
  if (!region->inside || !is_before(floor, region->end))
    return most;
  if (floor.us == region->end.us && region->ids_per_job > 0)
    left = ((double)region->end.id - (double)floor.id) / region->ids_per_job;
  else if (floor.us < region->end.us && region->us_per_job > 0)
    left = ((double)region->end.us - (double)floor.us) / region->us_per_job;
  if (left < (double)most / PART_LEAST)
    left = (double)most / PART_LEAST;
  return left < most ? (int32_t)left + 1 : most;
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
    leave(region); /* there is more before all regions than one sweep brings */
  if (claim->swept && region->inside)
    return false;
  region->full = claim->full ? region->full + 1 : 0;
  if (claim->full && claim->count >= JOBS_LEAST)
    learn(region, claim);
  region->got = claim->last;
  return true;
}

bool region_leave(struct region *region, struct place *floor) {
  if (!region->inside)
    return false;
  leave(region);
  *floor = region->got;
  return true;
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
  return region->inside && is_before(floor, region->end) ? region->end : floor;
}

void region_answered(struct region *region, struct place end, int64_t ids, int64_t us, int64_t now_ms) {
  region->ask_at_ms = now_ms;
  region->has_next = true;
  region->anew = false;
  region->next_end = end;
  region->next_begin = ids > 0 ? (struct place){end.us, end.id - ids + 1} : (struct place){end.us - us, INT64_MIN};
}

void region_denied(struct region *region, int64_t now_ms) {
  leave(region);
  region->ask_at_ms = now_ms + ALONE_MS;
}

void region_forget(struct region *region) {
  *region = (struct region){.ask_at_ms = region->ask_at_ms};
}
