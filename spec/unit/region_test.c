#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "region.h"

enum { JOBS = 100, REGION = 4 * JOBS, US = 5000000 };

static struct region_claim claim_of(int64_t first, int64_t last, bool full) {
  return (struct region_claim){
      .first = {US, first}, .last = {US, last}, .count = (int)(last - first + 1), .full = full};
}

/* Two full claims of jobs with the same run_after: the queue is busy. */
static void see_busy(struct region *region) {
  struct region_claim claims[] = {claim_of(1, JOBS, true), claim_of(JOBS + 1, 2 * JOBS, true)};
  assert_true(region_saw(region, &claims[0]));
  assert_true(region_saw(region, &claims[1]));
}

static void assert_place(struct place place, int64_t us, int64_t id) {
  assert_true(place.us == us);
  assert_true(place.id == id);
}

/* Asks from the place `id`, and gets the region of that many jobs that ends at `end`. */
static void reserve(struct region *region, int64_t id, int64_t end) {
  int64_t ids, us;
  struct place floor = {US, id};
  assert_true(region_wants(region, floor, JOBS, 0));
  region_asked(region, floor, JOBS, &ids, &us);
  assert_true(ids == REGION && us == 0);
  assert_false(region_wants(region, floor, JOBS, 0)); /* the answer is awaited */
  region_answered(region, (struct place){US, end}, ids, us, 0);
}

static void a_region_is_wanted_after_two_full_claims(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim claim = claim_of(1, JOBS, true), shorter = claim_of(101, 150, false);
  region_saw(&region, &claim);
  assert_false(region_wants(&region, claim.last, JOBS, 0));
  region_saw(&region, &shorter);
  region_saw(&region, &claim);
  assert_false(region_wants(&region, claim.last, JOBS, 0));
  region_saw(&region, &claim);
  assert_true(region_wants(&region, claim.last, JOBS, 0));
  assert_false(region_wants(&region, claim.last, 1, 0)); /* jobs that take long are not worth it */
  assert_false(region_wants(&region, (struct place){INT64_MIN, 1}, JOBS, 0));
}

static void a_worker_that_is_alone_asks_again_after_a_second(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  region_denied(&region, 10);
  see_busy(&region);
  assert_false(region_wants(&region, (struct place){US, 200}, JOBS, 1009));
  assert_true(region_wants(&region, (struct place){US, 200}, JOBS, 1010));
  assert_place(region_enter(&region, (struct place){US, 200}, 0), US, 200);
  assert_false(region_has(&region, (struct place){US, 200}));
  assert_false(region.shared);
}

static void claims_stay_in_the_region_and_then_enter_the_next(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  assert_false(region_has(&region, (struct place){US, 200}));
  reserve(&region, 200, 1400);
  struct place floor = region_enter(&region, (struct place){US, 200}, 0);
  assert_place(floor, US, 1001);
  assert_true(region_has(&region, floor));
  assert_true(region_has(&region, (struct place){US, 1399}));
  assert_false(region_has(&region, (struct place){US, 1400}));
  reserve(&region, 1100, 3000);
  assert_place(region_enter(&region, (struct place){US, 1100}, 0), US, 1100); /* this region is not used up */
  assert_place(region_enter(&region, (struct place){US, 1400}, 0), US, 2601);
  assert_true(region.of_ids);
}

static void a_region_that_begins_before_the_floor_begins_at_the_floor(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  reserve(&region, 200, 600);
  assert_place(region_enter(&region, (struct place){US, 350}, 0), US, 350);
}

static void a_claim_that_takes_what_is_left_of_a_region_is_followed_by_one_in_the_next(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  reserve(&region, 200, 1400);
  region_enter(&region, (struct place){US, 200}, 0);
  reserve(&region, 1100, 3000);
  struct place floor = region_end(&region, (struct place){US, 1100}, region.end, false);
  assert_place(floor, US, 1400);
  assert_place(region_enter(&region, floor, 0), US, 2601);
  assert_place(region_end(&region, (struct place){US, 2700}, floor, false), US, 2700); /* a late answer */
}

/* Otherwise a worker at the end of the queue would reserve one empty region after the other. */
static void after_a_region_without_a_job_the_next_claim_goes_beyond_it(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim claim = claim_of(5000, 5099, true);
  see_busy(&region);
  reserve(&region, 200, 1400);
  struct place floor = region_enter(&region, (struct place){US, 200}, 0);
  reserve(&region, 1001, 3000);
  floor = region_end(&region, floor, region.end, true);
  assert_place(region_enter(&region, floor, 0), US, 1400);
  assert_false(region_has(&region, floor));
  region_saw(&region, &claim);
  assert_place(region_enter(&region, (struct place){US, 2000}, 0), US, 2601);
}

static void the_worker_leaves_at_the_end_of_the_queue(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  reserve(&region, 200, 1400);
  region_enter(&region, (struct place){US, 200}, 0);
  region_leave(&region);
  assert_false(region.inside);
  assert_true(region.anew && region.shared); /* the frontier may lie behind all jobs */
}

static void a_region_that_is_reserved_after_the_end_of_the_queue_is_of_no_use(void **state) {
  (void)state;
  struct region region = {0};
  int64_t ids, us;
  see_busy(&region);
  region_asked(&region, (struct place){US, 200}, JOBS, &ids, &us);
  region_leave(&region);
  region_answered(&region, (struct place){US, 1400}, ids, us, 0);
  assert_false(region.has_next);
  assert_true(region.shared);
}

/* Jobs with the same run_after may be enqueued later, with ids between those of the workers' regions. */
static void after_the_next_sweep_the_floor_goes_back_to_the_last_job_of_a_region(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim claim = claim_of(1001, 1100, true), sweep = claim_of(700, 710, false);
  sweep.swept = true;
  see_busy(&region);
  reserve(&region, 200, 1400);
  region_enter(&region, (struct place){US, 200}, 0);
  region_saw(&region, &claim);
  assert_place(region_swept(&region, (struct place){US, 1200}), US, 1200); /* not while it is inside */
  region_leave(&region);
  assert_true(region_saw(&region, &sweep));
  assert_place(region_swept(&region, (struct place){US, 1400}), US, 1100);
  assert_place(region_swept(&region, (struct place){US, 1400}), US, 1400);
}

static void a_sweep_does_not_move_a_worker_out_of_its_region(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim sweep = claim_of(500, 599, true);
  sweep.swept = true;
  see_busy(&region);
  reserve(&region, 200, 1400);
  region_enter(&region, (struct place){US, 200}, 0);
  assert_false(region_saw(&region, &sweep));
  assert_true(region.inside);
}

/* Many jobs that were given back, or that became due again, lie before all regions. */
static void a_sweep_that_finds_a_full_claim_far_back_does(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim sweep = claim_of(500, 599, true);
  sweep.swept = true;
  see_busy(&region);
  for (int i = 0; i < 3; i++) {
    reserve(&region, 200 + i * 1000, 1400 + i * 1000);
    region_enter(&region, (struct place){US, 400 + i * 1000}, i * 600);
  }
  assert_true(region_saw(&region, &sweep));
  assert_false(region.inside);
}

static void regions_are_stretches_of_time_where_jobs_differ_in_it(void **state) {
  (void)state;
  struct region region = {0};
  int64_t ids, us;
  struct region_claim claim = {.first = {US, 7}, .last = {US + 990, 3}, .count = JOBS, .full = true};
  region_saw(&region, &claim);
  region_saw(&region, &claim);
  assert_place(region_asked(&region, claim.last, JOBS, &ids, &us), US + 990, 3);
  assert_true(ids == 0 && us == 4001);
  region_answered(&region, (struct place){US + 9000, 0}, ids, us, 0);
  assert_place(region_enter(&region, claim.last, 0), US + 4999, INT64_MIN);
  assert_false(region.of_ids);
  assert_true(region_has(&region, (struct place){US + 8999, INT64_MAX}));
  assert_false(region_has(&region, (struct place){US + 9000, INT64_MIN})); /* the next region begins here */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_region_is_wanted_after_two_full_claims),
      cmocka_unit_test(a_worker_that_is_alone_asks_again_after_a_second),
      cmocka_unit_test(claims_stay_in_the_region_and_then_enter_the_next),
      cmocka_unit_test(a_region_that_begins_before_the_floor_begins_at_the_floor),
      cmocka_unit_test(a_claim_that_takes_what_is_left_of_a_region_is_followed_by_one_in_the_next),
      cmocka_unit_test(after_a_region_without_a_job_the_next_claim_goes_beyond_it),
      cmocka_unit_test(the_worker_leaves_at_the_end_of_the_queue),
      cmocka_unit_test(a_region_that_is_reserved_after_the_end_of_the_queue_is_of_no_use),
      cmocka_unit_test(after_the_next_sweep_the_floor_goes_back_to_the_last_job_of_a_region),
      cmocka_unit_test(a_sweep_does_not_move_a_worker_out_of_its_region),
      cmocka_unit_test(a_sweep_that_finds_a_full_claim_far_back_does),
      cmocka_unit_test(regions_are_stretches_of_time_where_jobs_differ_in_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
