#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "claim.h"
#include "clock.h"
#include "memory.h"

/* More queues than one claim can ask for a share that is worth it. */
enum { QUEUES = 400, QUICK = 1000, SLOW = 1 };

/* How long a job of a quick queue takes, and of a slow one. A share of such a quick queue is 20 jobs. */
enum { QUICK_US = 1, SLOW_US = 200000, SHARE = 20, ASKED = QUICK / SHARE };

struct scene {
  struct queue_list list;
  struct queue *queues[QUEUES];
  struct claim claim, other; /* of two holds */
};

static int set_up(void **state) {
  struct scene *scene = memory_new(sizeof *scene);
  for (int i = 0; i < QUEUES; i++) {
    char name[16];
    snprintf(name, sizeof name, "q%d", i);
    scene->queues[i] = queue_find(&scene->list, name);
    scene->queues[i]->sweep_next = false;
    queue_set_pause(scene->queues[i], 0);
  }
  claim_serve(&scene->claim, scene->queues, QUEUES);
  claim_serve(&scene->other, scene->queues, QUEUES);
  scene->claim.first_queue = scene->other.first_queue = 0;
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  claim_free(&scene->claim);
  claim_free(&scene->other);
  queue_list_free(&scene->list);
  free(scene);
  return 0;
}

static void set_pace(struct scene *scene, int first, int end, int batch) {
  for (int i = first; i < end; i++) {
    scene->queues[i]->batch = batch;
    scene->queues[i]->job_us = batch == SLOW ? SLOW_US : QUICK_US;
  }
}

static void set_busy(struct scene *scene, int first, int end) {
  for (int i = first; i < end; i++)
    scene->queues[i]->busy = true;
}

/* The position of the queue in the request; -1: it is not asked. */
static int position_of(const struct claim *claim, uint32_t index) {
  for (uint32_t i = 0; i < claim->asked_count; i++)
    if (claim->asked_index[i] == index)
      return (int)i;
  return -1;
}

static int count_asked(const struct claim *claim, uint32_t first, uint32_t end) {
  int count = 0;
  for (uint32_t i = 0; i < claim->asked_count; i++)
    count += claim->asked_index[i] >= first && claim->asked_index[i] < end;
  return count;
}

static bool choose(struct claim *claim) {
  return claim_choose(claim, CLAIM_ANY, INT32_MAX);
}

/* Chooses, and sends the claim. */
static void make_claim(struct claim *claim) {
  struct parameters parameters = {0};
  assert_true(choose(claim));
  claim_parameters(claim, true, &parameters);
  parameters_free(&parameters);
}

/* ── which queues, and how many jobs ── */

static void queues_that_have_jobs_are_asked_alone(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 7, 10);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.asked_count, 3);
  assert_int_equal(count_asked(&scene->claim, 7, 10), 3);
  assert_int_equal(scene->claim.most[0], QUICK / 3);
  assert_true(scene->claim.looks && !scene->claim.complete && !scene->claim.crowded);
}

static void all_are_asked_for_one_job_while_none_is_known_to_have_any(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, 100, QUICK);
  set_pace(scene, 100, 200, SLOW);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.asked_count, QUEUES);
  assert_int_equal(scene->claim.most_jobs, 1);
  assert_true(scene->claim.complete && !scene->claim.looks);
}

static void a_claim_of_many_queues_is_full_and_shares_are_worth_it(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, QUEUES);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.asked_count, ASKED);
  assert_int_equal(scene->claim.most[0], SHARE);
  assert_true(scene->claim.crowded);
}

static void queues_that_start_have_small_shares_and_many_fit(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, 2);
  set_busy(scene, 0, QUEUES);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.asked_count, QUEUES);
  assert_int_equal(scene->claim.most[0], 2);
}

/* ── fairness ── */

/* Each claim asks the queues that were not asked for the longest time, whichever hold asked them. */
static void each_queue_has_its_turn_whichever_hold_claims(void **state) {
  struct scene *scene = *state;
  int seen[QUEUES] = {0};
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, QUEUES);
  for (int round = 0; round < QUEUES / ASKED; round++) {
    struct claim *claim = round % 2 ? &scene->other : &scene->claim;
    make_claim(claim);
    for (uint32_t i = 0; i < claim->asked_count; i++)
      seen[claim->asked_index[i]]++;
  }
  for (int i = 0; i < QUEUES; i++)
    assert_int_equal(seen[i], 1);
}

static void a_queue_that_cannot_be_asked_does_not_stop_the_turns(void **state) {
  struct scene *scene = *state;
  int seen[QUEUES] = {0};
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, QUEUES);
  scene->queues[3]->pause_until_ms = clock_ms() + 60000;
  scene->claim.capacity[200] = 0;
  for (int round = 0; round < QUEUES / ASKED; round++) {
    make_claim(&scene->claim);
    for (uint32_t i = 0; i < scene->claim.asked_count; i++)
      seen[scene->claim.asked_index[i]]++;
  }
  for (int i = 0; i < QUEUES; i++)
    assert_true(seen[i] >= 1 || i == 3 || i == 200);
}

static void a_queue_that_is_found_late_comes_next(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, 300);
  for (int round = 0; round < 20; round++)
    make_claim(&scene->claim);
  set_busy(scene, 350, 351);
  make_claim(&scene->claim);
  assert_int_equal(position_of(&scene->claim, 350), 0);
}

static void slow_queues_that_have_jobs_take_turns_beside_quick_ones(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, SLOW);
  set_pace(scene, 0, 5, QUICK);
  set_busy(scene, 0, 5);
  set_busy(scene, 100, 103);
  for (uint32_t i = 0; i < 6; i++) {
    assert_true(choose(&scene->claim));
    assert_int_equal(scene->claim.asked_count, 6);
    assert_int_equal(position_of(&scene->claim, 100 + i % 3), 5);
  }
}

/* ── queues of which no job has run yet ── */

static void as_many_new_queues_are_tried_as_have_one_slow_one_among_them(void **state) {
  struct scene *scene = *state;
  set_busy(scene, 0, QUEUES);
  set_pace(scene, 0, 1, QUICK);
  assert_true(choose(&scene->claim));
  assert_int_equal(count_asked(&scene->claim, 1, QUEUES), 1);
  set_pace(scene, 0, 8, QUICK);
  assert_true(choose(&scene->claim));
  assert_int_equal(count_asked(&scene->claim, 8, QUEUES), 8);
  set_pace(scene, 0, 100, QUICK);
  assert_true(choose(&scene->claim));
  assert_int_equal(count_asked(&scene->claim, 100, QUEUES), 32);
  set_pace(scene, 100, 109, SLOW);
  scene->claim.only = CLAIM_ONLY_NONE;
  assert_true(choose(&scene->claim));
  assert_int_equal(count_asked(&scene->claim, 109, QUEUES), 10);
  assert_int_equal(count_asked(&scene->claim, 100, 109), 1);
  assert_int_equal(scene->claim.most[position_of(&scene->claim, 109)], 1);
}

static void new_queues_are_not_tried_ahead_and_one_by_one_where_all_are_slow(void **state) {
  struct scene *scene = *state;
  set_busy(scene, 0, QUEUES);
  set_pace(scene, 0, 50, SLOW);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.most_jobs, 1);
  assert_true(scene->claim.complete);
  set_pace(scene, 0, 50, QUICK);
  assert_true(claim_choose(&scene->claim, CLAIM_AHEAD, INT32_MAX));
  assert_int_equal(count_asked(&scene->claim, 50, QUEUES), 0);
}

/* ── looks ── */

static bool look(struct claim *claim) {
  struct parameters parameters = {0};
  make_claim(claim);
  bool looks = claim_look(claim, &parameters);
  parameters_free(&parameters);
  return looks;
}

/* The answer of the server: the queues at these positions have due jobs; 0 ends the list. */
static void answer_look(struct claim *claim, const uint32_t *positions) {
  static PGresAttDesc columns[] = {{.name = "position"}};
  PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
  assert_true(PQsetResultAttrs(result, 1, columns));
  for (int row = 0; positions[row] > 0; row++) {
    char bytes[8] = {0};
    for (int i = 0; i < 4; i++)
      bytes[7 - i] = (char)(positions[row] >> (8 * i));
    assert_true(PQsetvalue(result, row, 0, bytes, 8));
  }
  claim_take_look(claim, result);
  PQclear(result);
}

static void a_look_finds_the_queues_that_the_next_claim_asks(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, 2);
  assert_true(look(&scene->claim));
  assert_int_equal(scene->claim.looked_count, QUEUES - 2);
  struct queue *found = scene->claim.looked[4];
  scene->claim.full = false;
  answer_look(&scene->claim, (uint32_t[]){5, 0});
  assert_true(found->busy && scene->claim.full);
  assert_true(choose(&scene->claim));
  assert_int_equal(scene->claim.asked_count, 3);
}

static void looks_of_all_holds_follow_each_other_after_a_while(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, 2);
  assert_true(look(&scene->claim));
  assert_false(look(&scene->other));
  for (int i = 0; i < QUEUES; i++)
    scene->queues[i]->looked_ms -= 1000;
  scene->queues[50]->pause_until_ms = clock_ms() + 60000;
  assert_true(look(&scene->other));
  assert_int_equal(scene->other.looked_count, QUEUES - 3);
}

static void a_look_that_sweeps_settles_the_sweep_of_empty_queues(void **state) {
  struct scene *scene = *state;
  set_pace(scene, 0, QUEUES, QUICK);
  set_busy(scene, 0, 2);
  scene->queues[100]->sweep_next = scene->queues[101]->sweep_next = true;
  assert_true(look(&scene->claim));
  assert_true(scene->claim.sweeps_any && !scene->claim.sweeps_all);
  scene->queues[102]->sweep_next = true; /* a job of it goes back while the look is under way */
  uint32_t position = 1;
  while (scene->claim.looked[position - 1] != scene->queues[101])
    position++;
  answer_look(&scene->claim, (uint32_t[]){position, 0});
  assert_false(scene->queues[100]->sweep_next);
  assert_true(scene->queues[102]->sweep_next);
  assert_true(scene->queues[101]->sweep_next && scene->queues[101]->busy);
}

static void nothing_is_looked_at_where_all_are_asked(void **state) {
  struct scene *scene = *state;
  assert_false(look(&scene->claim));
  claim_serve(&scene->claim, scene->queues, 10);
  set_pace(scene, 0, 10, QUICK);
  set_busy(scene, 0, 2);
  assert_false(look(&scene->claim));
  assert_int_equal(scene->claim.asked_count, 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(queues_that_have_jobs_are_asked_alone),
      TEST(all_are_asked_for_one_job_while_none_is_known_to_have_any),
      TEST(a_claim_of_many_queues_is_full_and_shares_are_worth_it),
      TEST(queues_that_start_have_small_shares_and_many_fit),
      TEST(each_queue_has_its_turn_whichever_hold_claims),
      TEST(a_queue_that_cannot_be_asked_does_not_stop_the_turns),
      TEST(a_queue_that_is_found_late_comes_next),
      TEST(slow_queues_that_have_jobs_take_turns_beside_quick_ones),
      TEST(as_many_new_queues_are_tried_as_have_one_slow_one_among_them),
      TEST(new_queues_are_not_tried_ahead_and_one_by_one_where_all_are_slow),
      TEST(a_look_finds_the_queues_that_the_next_claim_asks),
      TEST(looks_of_all_holds_follow_each_other_after_a_while),
      TEST(a_look_that_sweeps_settles_the_sweep_of_empty_queues),
      TEST(nothing_is_looked_at_where_all_are_asked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
