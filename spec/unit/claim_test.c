#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "claim.h"
#include "clock.h"
#include "memory.h"

enum { QUICK = 1000, MIDDLING = 4, SLOW = 1 }; /* how many jobs of a queue a claim may take */

struct scene {
  struct queue_list list;
  struct queue *queues[3];
  struct claim claim;
};

static int set_up(void **state) {
  static const char *const names[] = {"a", "b", "c"};
  struct scene *scene = memory_new(sizeof *scene);
  for (int i = 0; i < 3; i++) {
    scene->queues[i] = queue_find(&scene->list, names[i]);
    queue_set_pause(scene->queues[i], 0);
  }
  claim_serve(&scene->claim, scene->queues, 3);
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  claim_free(&scene->claim);
  queue_list_free(&scene->list);
  free(scene);
  return 0;
}

static void set_batches(struct scene *scene, int a, int b, int c) {
  scene->queues[0]->batch = a;
  scene->queues[1]->batch = b;
  scene->queues[2]->batch = c;
}

static void set_room(struct scene *scene, int32_t a, int32_t b, int32_t c) {
  scene->claim.capacity[0] = a;
  scene->claim.capacity[1] = b;
  scene->claim.capacity[2] = c;
}

/* How many jobs of that queue the claim asks for; -1: the claim does not ask for this queue. */
static int asked(const struct scene *scene, uint32_t index) {
  for (uint32_t i = 0; i < scene->claim.asked_count; i++)
    if (scene->claim.asked_index[i] == index) {
      assert_ptr_equal(scene->claim.asked[i], scene->queues[index]);
      return scene->claim.most[i];
    }
  return -1;
}

static void assert_asked(const struct scene *scene, int a, int b, int c) {
  assert_int_equal(asked(scene, 0), a);
  assert_int_equal(asked(scene, 1), b);
  assert_int_equal(asked(scene, 2), c);
}

static void there_is_room_until_something_else_is_said(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, SLOW, SLOW);
  scene->queues[0]->busy = true;
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, QUICK, 1, -1); /* of the slow ones, one has its turn */
  assert_false(scene->claim.complete);
}

static void no_more_are_asked_for_than_there_is_room_for(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, QUICK, SLOW);
  scene->queues[0]->busy = scene->queues[1]->busy = true;
  set_room(scene, 3, INT32_MAX, 1);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, 3, QUICK / 2, 1);
  assert_int_equal(scene->claim.most_jobs, 3 + QUICK / 2 + 1);
  assert_true(scene->claim.complete);
}

static void a_queue_without_room_is_not_asked_whatever_its_pace(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, SLOW, SLOW);
  set_room(scene, 0, 0, 1);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, -1, -1, 1);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, 1));
  assert_asked(scene, -1, -1, 1);
  set_room(scene, -1, 1, INT32_MIN);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, -1, 1, -1);
}

/* Otherwise a worker whose only busy queue is full would never sleep, and never ask when the next job is due. */
static void a_claim_that_leaves_out_only_full_queues_is_complete(void **state) {
  struct scene *scene = *state;
  set_room(scene, 0, 1, 1);
  scene->queues[2]->backoff_until_ms = clock_ms() + 60000;
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, -1, 1, -1);
  assert_true(scene->claim.complete);
}

static void nothing_is_claimed_when_all_are_full(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, MIDDLING, SLOW);
  set_room(scene, 0, 0, 0);
  assert_false(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_false(claim_choose(&scene->claim, CLAIM_ANY, 1));
  assert_false(claim_choose(&scene->claim, CLAIM_AHEAD, INT32_MAX));
}

static void a_claim_ahead_is_bounded_by_room_too(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, MIDDLING, SLOW);
  set_room(scene, 2, 0, INT32_MAX);
  assert_true(claim_choose(&scene->claim, CLAIM_AHEAD, INT32_MAX));
  assert_asked(scene, 2, -1, -1);
}

static void a_full_queue_does_not_lose_the_others_their_turn(void **state) {
  struct scene *scene = *state;
  set_batches(scene, QUICK, SLOW, SLOW);
  scene->queues[0]->busy = true;
  set_room(scene, 5, 0, 1);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, 5, -1, 1);
  set_room(scene, 5, 1, 1);
  scene->claim.first_slow_queue = 1;
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, 5, 1, -1);
}

static void a_new_executor_has_room(void **state) {
  struct scene *scene = *state;
  set_room(scene, 0, 0, 0);
  claim_serve(&scene->claim, scene->queues, 2);
  assert_true(scene->claim.stale);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, 1, 1, -1);
  assert_int_equal(scene->claim.most_jobs, 1); /* for an executor that is free: one job altogether */
}

/* ── looking ── */

static void set_i64(PGresult *result, int row, int column, int64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; i++)
    bytes[i] = (char)((uint64_t)value >> (56 - 8 * i));
  assert_true(PQsetvalue(result, row, column, bytes, 8));
}

/* The server's answer: one queue has a due job, and there are no future jobs. */
static PGresult *due_in(int64_t position) {
  static PGresAttDesc columns[] = {{.name = "queue"}, {.name = "due"}, {.name = "wait_ms"}};
  static char due[] = {1};
  PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
  assert_true(PQsetResultAttrs(result, 3, columns));
  set_i64(result, 0, NEXT_DUE_QUEUE, position);
  assert_true(PQsetvalue(result, 0, NEXT_DUE_NOW, due, 1));
  assert_true(PQsetvalue(result, 0, NEXT_DUE_WAIT_MS, NULL, -1));
  return result;
}

static struct idle_info look_at(struct scene *scene, int64_t position) {
  struct idle_info look = {.wait_ms = -1};
  PGresult *result = due_in(position);
  idle_info_take(&scene->claim, result, &look);
  PQclear(result);
  return look;
}

static void a_job_that_is_due_where_there_is_no_room_is_nobody_elses(void **state) {
  struct scene *scene = *state;
  set_room(scene, 0, 1, 1);
  scene->queues[2]->backoff_until_ms = clock_ms() + 60000;
  struct idle_info full = look_at(scene, 1), locked = look_at(scene, 2), paused = look_at(scene, 3);
  assert_true(full.due_shut && !full.due_locked);
  assert_true(locked.due_locked && !locked.due_shut);
  assert_true(paused.due_shut && !paused.due_locked);
  assert_int_equal(full.wait_ms, -1);
}

static void a_paused_queue_is_neither_asked_nor_looked_at(void **state) {
  struct scene *scene = *state;
  struct parameters parameters = {0};
  queue_set_pause(scene->queues[1], PAUSED_FOR_EVER_MS);
  assert_true(claim_choose(&scene->claim, CLAIM_ANY, INT32_MAX));
  assert_asked(scene, 1, -1, 1);
  assert_true(scene->claim.complete);
  idle_info_parameters(&scene->claim, &parameters);
  assert_memory_equal(parameters.bytes.bytes + 20, "\0\0\0\1a\xff\xff\xff\xff\0\0\0\1c", 14); /* null instead of b */
  parameters_free(&parameters);
}

static void a_look_of_an_executor_with_more_queues_is_not_read(void **state) {
  struct scene *scene = *state;
  struct idle_info look = look_at(scene, 4);
  assert_false(look.due_shut || look.due_locked);
}

static void due_jobs_that_a_claim_leaves_out_are_not_locked(void **state) {
  static const enum claim_deaths partial[] = {CLAIM_DEATHS_FEW, CLAIM_DEATHS_MANY};
  struct scene *scene = *state;
  set_room(scene, 10, 10, 10);
  assert_false(look_at(scene, 1).due_shut);
  for (int i = 0; i < 2; i++) {
    scene->claim.deaths = partial[i];
    assert_true(look_at(scene, 1).due_shut);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(there_is_room_until_something_else_is_said),
      TEST(no_more_are_asked_for_than_there_is_room_for),
      TEST(a_queue_without_room_is_not_asked_whatever_its_pace),
      TEST(a_claim_that_leaves_out_only_full_queues_is_complete),
      TEST(nothing_is_claimed_when_all_are_full),
      TEST(a_claim_ahead_is_bounded_by_room_too),
      TEST(a_full_queue_does_not_lose_the_others_their_turn),
      TEST(a_new_executor_has_room),
      TEST(a_job_that_is_due_where_there_is_no_room_is_nobody_elses),
      TEST(a_paused_queue_is_neither_asked_nor_looked_at),
      TEST(a_look_of_an_executor_with_more_queues_is_not_read),
      TEST(due_jobs_that_a_claim_leaves_out_are_not_locked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
