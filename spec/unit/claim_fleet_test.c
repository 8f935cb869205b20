#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "claim_fleet.h"
#include "memory.h"

enum { BATCH = 100, PLAIN_PARAMETERS = 9, FLEET_PARAMETERS = 12 };

struct scene {
  struct queue_list list;
  struct queue *queues[2];
  struct claim claim;
  struct parameters parameters;
};

static int set_up(void **state) {
  static const char *const names[] = {"a", "b"};
  struct scene *scene = memory_new(sizeof *scene);
  for (int i = 0; i < 2; i++) {
    scene->queues[i] = queue_find(&scene->list, names[i]);
    *scene->queues[i] = (struct queue){.name = scene->queues[i]->name,
                                       .next = scene->queues[i]->next,
                                       .batch = BATCH,
                                       .busy = true,
                                       .floor_us = 5,
                                       .floor_id = 200};
  }
  claim_serve(&scene->claim, scene->queues, 2);
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  parameters_free(&scene->parameters);
  claim_free(&scene->claim);
  queue_list_free(&scene->list);
  free(scene);
  return 0;
}

/* Makes the request of a claim, and returns its statement. */
static enum statement claim(struct scene *scene) {
  parameters_free(&scene->parameters);
  scene->parameters = (struct parameters){0};
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  claim_parameters(&scene->claim, true, &scene->parameters);
  parameters_add_i64_array(&scene->parameters, NULL, NULL, 0);
  return claim_fleet_parameters(&scene->claim, &scene->parameters);
}

static void set_region(struct queue *queue, bool of_ids) {
  struct place end = {of_ids ? 5 : 9, of_ids ? 400 : INT64_MIN};
  queue->region = (struct region){.inside = true, .of_ids = of_ids, .shared = true, .end = end, .ask_at_ms = INT64_MAX};
}

static void a_worker_without_regions_claims_by_the_plain_statement(void **state) {
  struct scene *scene = *state;
  assert_int_equal(claim(scene), STATEMENT_CLAIM);
  assert_int_equal(scene->parameters.count, PLAIN_PARAMETERS);
}

static void a_claim_ends_with_the_regions_of_its_queues(void **state) {
  struct scene *scene = *state;
  for (int of_ids = 0; of_ids < 2; of_ids++) {
    set_region(scene->queues[1], of_ids);
    assert_int_equal(claim(scene), STATEMENT_CLAIM_IN_FLEET);
    assert_int_equal(scene->parameters.count, FLEET_PARAMETERS);
    assert_true(scene->claim.ends[0].us == INT64_MIN);
    assert_true(scene->claim.ends[1].us == scene->queues[1]->region.end.us);
  }
}

static void what_is_left_of_a_region_is_the_end_of_that_region_only(void **state) {
  struct scene *scene = *state;
  set_region(scene->queues[1], true);
  claim(scene);
  claim_fleet_end(&scene->claim, 1, false);
  assert_true(scene->queues[1]->floor_id == 400);
  assert_true(scene->queues[1]->region.inside && scene->claim.again);
}

static void the_end_of_the_queue_ends_the_regions(void **state) {
  struct scene *scene = *state;
  set_region(scene->queues[1], true);
  scene->queues[1]->floor_id = 400;
  assert_int_equal(claim(scene), STATEMENT_CLAIM);
  claim_fleet_end(&scene->claim, 1, false);
  assert_false(scene->queues[1]->region.inside);
  assert_true(scene->queues[1]->floor_id == 400);
}

static void a_worker_that_is_alone_sweeps_when_it_wants(void **state) {
  struct scene *scene = *state;
  claim_sweep(&scene->claim);
  assert_int_equal(claim(scene), STATEMENT_CLAIM);
  assert_true(scene->claim.sweeps_all && !scene->claim.locks_sweep);
}

static void a_worker_that_shares_a_queue_sweeps_under_the_lock(void **state) {
  struct scene *scene = *state;
  scene->queues[0]->region.shared = true;
  claim_sweep(&scene->claim);
  assert_int_equal(claim(scene), STATEMENT_CLAIM_IN_FLEET);
  assert_true(scene->claim.sweeps_all && scene->claim.locks_sweep);
  claim_take_sweep_lock(&scene->claim, true);
  assert_true(scene->claim.sweeps_all && scene->claim.swept[0]);
}

/* The transaction, and with it the lock, would last as long as the jobs. */
static void a_queue_of_slow_jobs_is_swept_without_the_lock(void **state) {
  struct scene *scene = *state;
  scene->queues[0]->region.shared = true;
  scene->queues[0]->job_us = 10000;
  claim_sweep(&scene->claim);
  assert_int_equal(claim(scene), STATEMENT_CLAIM);
  assert_true(scene->claim.sweeps_all);
}

static void without_the_lock_the_claim_is_no_sweep(void **state) {
  struct scene *scene = *state;
  scene->queues[0]->region.shared = true;
  claim_sweep(&scene->claim);
  claim(scene);
  claim_take_sweep_lock(&scene->claim, false);
  assert_true(scene->claim.denied && !scene->claim.sweeps_all && !scene->claim.sweeps_any && !scene->claim.swept[1]);
  assert_true(scene->queues[0]->sweep_next); /* it is still due */
  claim(scene);
  assert_false(scene->claim.denied);
}

/* The answer to its reservation has asked it to, and it asks one worker in each second. */
static void a_worker_in_a_region_sweeps_without_the_lock(void **state) {
  struct scene *scene = *state;
  for (int i = 0; i < 2; i++) {
    set_region(scene->queues[i], true);
    scene->queues[i]->region.sweep = true;
  }
  assert_int_equal(claim(scene), STATEMENT_CLAIM);
  assert_true(scene->claim.sweeps_all && !scene->claim.locks_sweep);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_worker_without_regions_claims_by_the_plain_statement, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_claim_ends_with_the_regions_of_its_queues, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_left_of_a_region_is_the_end_of_that_region_only, set_up, tear_down),
      cmocka_unit_test_setup_teardown(the_end_of_the_queue_ends_the_regions, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_worker_that_is_alone_sweeps_when_it_wants, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_worker_that_shares_a_queue_sweeps_under_the_lock, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_queue_of_slow_jobs_is_swept_without_the_lock, set_up, tear_down),
      cmocka_unit_test_setup_teardown(without_the_lock_the_claim_is_no_sweep, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_worker_in_a_region_sweeps_without_the_lock, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
