#ifndef PGQ_REGION_H
#define PGQ_REGION_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The regions of a queue. While several workers share a busy queue, their claims would read through each other's locked
 * rows. So each worker takes a part of the queue at a time, a region, and claims there. Where the next region
 * begins is the frontier of the queue, a row of pgq_frontiers that all workers move (sql/worker/reserve_region.sql).
 *
 * A region is as long as a few claims. A worker reserves the next one while it works in one, so no job is overtaken by
 * more than the time of a few claims. A claim that brings fewer jobs than it asked for has come to the end of the
 * queue: the worker then claims like one that is alone, from the place of the last job that it got. Jobs in the regions
 * of workers that stand still or have died are found by sweeps; the reservation tells one worker in each second to
 * sweep.
 *
 * This part has no I/O. Times are clock_ms(). The order of places is that of claims.
 */
struct place {
  int64_t us, id; /* run_after as Postgres counts it, and the id */
};

struct region {
  bool inside;      /* the worker claims in regions */
  struct place end; /* inside: where the region ends */
  struct place got; /* inside: the last job that this worker got in a region; or where it entered the first one */
  bool has_next;    /* the next region is reserved */
  struct place next_begin, next_end;
  int64_t ask_at_ms;  /* earliest time at which a region may be asked for; INT64_MAX: the answer is awaited */
  bool anew;          /* the next region begins at the worker's own place, wherever the frontier is */
  bool sweep;         /* it is this worker's turn to sweep the queue */
  int full;           /* number of full claims in a row, outside of regions */
  bool by_id;         /* the jobs of the last claim have the same run_after */
  double ids_per_job; /* the least distances of jobs that were seen lately; 0: unknown */
  double us_per_job;
  struct place mark, old_mark; /* inside: where the worker was MARK_MS ago at most, and at least */
  int64_t marked_ms;
};

/* The answer to a claim that brought jobs, for region_saw(). */
struct region_claim {
  struct place first, last; /* of the jobs */
  int count;
  bool full;  /* the claim brought as many as it asked for */
  bool swept; /* it was a sweep */
};

/* region_enter(region, floor, now_ms): to be called before a claim from `floor` that is no sweep: returns where the
 * claim starts, which is `floor` or the begin of the next region. */
struct place region_enter(struct region *region, struct place floor, int64_t now_ms);

/* region_limit(region, floor, most): returns how many of `most` jobs a claim from `floor` should ask for, so that it
 * ends where the region ends. */
int32_t region_limit(const struct region *region, struct place floor, int32_t most);

/* region_saw(region, claim): a claim brought jobs. Returns false if the queue's floor must stay where it is: the
 * claim was a sweep, and the worker goes on in its region. */
bool region_saw(struct region *region, const struct region_claim *claim);

/* region_leave(region, floor): a claim that was no sweep brought fewer jobs than it asked for. Returns whether the
 * worker was inside; then *floor is the queue's floor from now on. */
bool region_leave(struct region *region, struct place *floor);

/*
 * region_wants(region, floor, now_ms): whether a region is to be asked for now. If so, region_asked() says from which
 * place and for how long, for `jobs` jobs in each claim: in ids if *ids is not 0, else in microseconds of run_after.
 */
bool region_wants(const struct region *region, struct place floor, int jobs, int64_t now_ms);
struct place region_asked(struct region *region, struct place floor, int jobs, int64_t *ids, int64_t *us);

/* region_answered(region, end, ids, us, now_ms): the region that was asked for is reserved. region_denied(region,
 * now_ms): no other worker serves the queue, or regions cannot be reserved. */
void region_answered(struct region *region, struct place end, int64_t ids, int64_t us, int64_t now_ms);
void region_denied(struct region *region, int64_t now_ms);

/* region_forget(region): the session was lost: no region is valid. */
void region_forget(struct region *region);

#endif
