#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "region.h"

enum { JOBS = 100, US = 5000000 };

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
  assert_true(ids == 2 * JOBS && us == 0);
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
  assert_int_equal(region_limit(&region, (struct place){US, 200}, JOBS), JOBS);
}

static void claims_stay_in_the_region_and_then_enter_the_next(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  reserve(&region, 200, 1200);
  struct place floor = region_enter(&region, (struct place){US, 200}, 0);
  assert_place(floor, US, 1001);
  assert_int_equal(region_limit(&region, (struct place){US, 1001}, JOBS), JOBS);
  assert_int_equal(region_limit(&region, (struct place){US, 1150}, JOBS), 51);
  reserve(&region, 1100, 3000);
  assert_place(region_enter(&region, (struct place){US, 1100}, 0), US, 1100); /* this region is not used up */
  assert_place(region_enter(&region, (struct place){US, 1200}, 0), US, 2801);
}

static void a_region_that_begins_before_the_floor_begins_at_the_floor(void **state) {
  (void)state;
  struct region region = {0};
  see_busy(&region);
  reserve(&region, 200, 400);
  assert_place(region_enter(&region, (struct place){US, 350}, 0), US, 350);
}

static void at_the_end_of_the_queue_the_floor_goes_back_to_the_last_job(void **state) {
  (void)state;
  struct region region = {0};
  struct place floor;
  struct region_claim claim = claim_of(1001, 1100, true);
  assert_false(region_leave(&region, &floor));
  see_busy(&region);
  reserve(&region, 200, 1200);
  region_enter(&region, (struct place){US, 200}, 0);
  assert_true(region_saw(&region, &claim));
  assert_true(region_leave(&region, &floor));
  assert_place(floor, US, 1100);
  assert_true(region.anew); /* the frontier may lie behind all jobs */
  assert_false(region_leave(&region, &floor));
}

static void a_worker_that_got_no_job_in_a_region_goes_back_to_where_it_came_from(void **state) {
  (void)state;
  struct region region = {0};
  struct place floor;
  see_busy(&region);
  reserve(&region, 200, 1200);
  region_enter(&region, (struct place){US, 200}, 0);
  assert_true(region_leave(&region, &floor));
  assert_place(floor, US, 200);
}

static void a_sweep_does_not_move_a_worker_out_of_its_region(void **state) {
  (void)state;
  struct region region = {0};
  struct region_claim sweep = claim_of(500, 599, true);
  sweep.swept = true;
  see_busy(&region);
  reserve(&region, 200, 1200);
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
    reserve(&region, 200 + i * 1000, 1200 + i * 1000);
    region_enter(&region, (struct place){US, 200 + i * 1000}, i * 600);
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
  assert_true(ids == 0 && us == 2001);
  region_answered(&region, (struct place){US + 9000, 0}, ids, us, 0);
  assert_place(region_enter(&region, claim.last, 0), US + 6999, INT64_MIN);
  assert_int_equal(region_limit(&region, (struct place){US + 8000, 0}, 1000), 101);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_region_is_wanted_after_two_full_claims),
      cmocka_unit_test(a_worker_that_is_alone_asks_again_after_a_second),
      cmocka_unit_test(claims_stay_in_the_region_and_then_enter_the_next),
      cmocka_unit_test(a_region_that_begins_before_the_floor_begins_at_the_floor),
      cmocka_unit_test(at_the_end_of_the_queue_the_floor_goes_back_to_the_last_job),
      cmocka_unit_test(a_worker_that_got_no_job_in_a_region_goes_back_to_where_it_came_from),
      cmocka_unit_test(a_sweep_does_not_move_a_worker_out_of_its_region),
      cmocka_unit_test(a_sweep_that_finds_a_full_claim_far_back_does),
      cmocka_unit_test(regions_are_stretches_of_time_where_jobs_differ_in_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
