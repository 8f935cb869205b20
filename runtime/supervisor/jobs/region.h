#ifndef PGQ_REGION_H
#define PGQ_REGION_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The regions of a queue. While several workers share a busy queue, their claims would read through each other's locked
 * rows. So each worker takes a part of the queue at a time, a region, and claims there. Where the next region
 * begins is the frontier of the queue, a row of pgq_frontiers that all workers move (sql/worker/reserve_region.sql).
 *
 * A region is as long as a few claims, and claims end where it ends (sql/worker/claim_in_fleet.sql). A worker reserves
 * the next one while it works in one, so no job is overtaken by more than the time of a few claims. If the next one is
 * not reserved in time, or if the region has no jobs, the next claim goes beyond the end of the region, like that of a
 * worker that is alone. If such a claim brings fewer jobs than it asked for, it has come to the end of the queue, and
 * the worker claims from then on like one that is alone. Jobs in the regions of workers that stand still or have died
 * are found by sweeps; the reservation tells one worker in each second to sweep.
 *
 * This part has no I/O. Times are clock_ms(). The order of places is that of claims.
 */
struct place {
  int64_t us, id; /* run_after as Postgres counts it, and the id */
};

struct region {
  bool inside;      /* the worker claims in regions */
  bool of_ids;      /* inside: the region is a stretch of ids; all of its jobs have the same run_after */
  struct place end; /* inside: the last place of the region */
  struct place got; /* inside, left: the last job that this worker got in a region; or where it entered the first one */
  bool left;        /* the worker was inside, and jobs between `got` and the floor may be new */
  bool shared;      /* as far as is known, other workers serve the queue */
  bool beyond;      /* inside: the region has no job for this worker, so the next claim goes beyond it */
  bool has_next;    /* the next region is reserved */
  bool next_of_ids;
  struct place next_begin, next_end;
  int64_t ask_at_ms;  /* earliest time at which a region may be asked for; INT64_MAX: the answer is awaited */
  bool anew;          /* the frontier may lie behind all jobs: then the next region begins at the worker's own place */
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

/* region_has(region, place): whether the place lies before the end of the region in which the worker claims. A claim
 * from such a place ends where the region ends. */
bool region_has(const struct region *region, struct place place);

/* region_saw(region, claim): a claim brought jobs. Returns false if the queue's floor must stay where it is: the
 * claim was a sweep, and the worker goes on in its region. */
bool region_saw(struct region *region, const struct region_claim *claim);

/* region_end(region, floor, end, empty): a claim that ended with the region at `end` brought fewer jobs than it asked
 * for, or none (`empty`). Returns the queue's floor from now on. */
struct place region_end(struct region *region, struct place floor, struct place end, bool empty);

/* region_leave(region): a claim that was no sweep and no claim in a region brought fewer jobs than it asked for:
 * nothing is left between its start and the end of the queue. If the worker was inside, it is not any more. */
void region_leave(struct region *region);

/* region_swept(region, floor): a sweep brought fewer jobs than it asked for. Returns the queue's floor from now on:
 * jobs that are enqueued after the worker has left its regions may lie before that floor. */
struct place region_swept(struct region *region, struct place floor);

/*
 * region_wants(region, floor, now_ms): whether a region is to be asked for now. If so, region_asked() says from which
 * place and for how long, for `jobs` jobs in each claim: in ids if *ids is not 0, else in microseconds of run_after.
 */
bool region_wants(const struct region *region, struct place floor, int jobs, int64_t now_ms);
struct place region_asked(struct region *region, struct place floor, int jobs, int64_t *ids, int64_t *us);

/* region_answered(region, end, ids, us, now_ms): the region that was asked for is reserved; the frontier is now at
 * `end`. region_denied(region, now_ms): no other worker serves the queue, or regions cannot be reserved. */
void region_answered(struct region *region, struct place end, int64_t ids, int64_t us, int64_t now_ms);
void region_denied(struct region *region, int64_t now_ms);

/* region_forget(region): the session was lost: no region is valid. */
void region_forget(struct region *region);

#endif
