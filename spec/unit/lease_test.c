#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lease.h"
#include "log.h"
#include "memory.h"
#include "token.h"

enum { BATCH = 6, JOBS = 5, FIRST_ID = 100, WAIT_MS = 60000 };

/* A hold's batch at the hold limit: of five jobs three had begun, and are leased. */
struct scene {
  struct queue_list queues;
  struct queue *queue;
  struct batch batch, settling;
  struct lease_list list;
};

static int set_up(void **state) {
  struct scene *scene = memory_new(sizeof *scene);
  scene->queue = queue_find(&scene->queues, "mail");
  scene->batch = (struct batch){.number = BATCH, .count = JOBS, .open = JOBS, .sent = JOBS};
  scene->batch.jobs = memory_new(JOBS * sizeof(struct job));
  for (uint32_t i = 0; i < JOBS; i++)
    scene->batch.jobs[i] = (struct job){
        .id = FIRST_ID + i, .queue = scene->queue, .position = i + 1, .attempt = 1, .next_wait_ms = WAIT_MS};
  assert_int_equal(batch_split(&scene->batch, 3, 7000), 3);
  lease_list_add_from(&scene->list, &scene->batch);
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  lease_list_free(&scene->list);
  batch_clear(&scene->batch);
  batch_clear(&scene->settling);
  queue_list_free(&scene->queues);
  free(scene);
  return 0;
}

static struct job *end(struct scene *scene, uint32_t index, enum outcome outcome) {
  return lease_list_end(&scene->list, &(struct job_outcome){.batch = BATCH,
                                                            .index = index,
                                                            .outcome = outcome,
                                                            .waited = true,
                                                            .wait_ms = -1,
                                                            .duration_us = 9000000,
                                                            .busy_us = 20000,
                                                            .error = "no",
                                                            .error_length = 2});
}

static void die(struct scene *scene, int64_t culprit, const char *cause) {
  lease_list_child_died(
      &scene->list,
      &(struct child_death){.has_culprit = culprit != 0, .culprit = culprit, .ran_us = 1500, .cause = cause});
}

static enum outcome outcome_of(const struct scene *scene, int at) {
  return scene->list.items[at].job.outcome;
}

static void a_list_takes_those_that_are_to_be_leased_and_they_run(void **state) {
  struct scene *scene = *state;
  assert_int_equal(scene->list.count, 3);
  for (int i = 0; i < 3; i++) {
    const struct lease *lease = &scene->list.items[i];
    assert_int_equal(lease->job.id, FIRST_ID + i);
    assert_int_equal(lease->job.lease, 7000 + i);
    assert_int_equal(lease->batch, BATCH);
    assert_int_equal(lease->index, i);
    assert_int_equal(lease->job.outcome, OUTCOME_NONE);
    assert_int_equal(scene->batch.jobs[i].outcome, OUTCOME_LEASE); /* the batch has them leased in the database */
  }
  assert_int_equal(scene->batch.jobs[3].outcome, OUTCOME_UNRUN);
  assert_int_equal(scene->batch.jobs[3].lease, 0);
  assert_int_equal(scene->batch.open, 0);
  assert_int_equal(lease_list_busy(&scene->list), 3);
  assert_int_equal(lease_list_ended(&scene->list), 0);
}

static void a_job_ends_once_and_by_its_place_in_its_batch(void **state) {
  struct scene *scene = *state;
  const struct job *job = end(scene, 1, OUTCOME_FAIL);
  assert_non_null(job);
  assert_int_equal(job->id, FIRST_ID + 1);
  assert_string_equal(job->error, "no");
  assert_null(end(scene, 1, OUTCOME_COMPLETE));
  assert_null(end(scene, 3, OUTCOME_COMPLETE)); /* it has gone back */
  assert_null(lease_list_end(&scene->list, &(struct job_outcome){.batch = BATCH + 2, .outcome = OUTCOME_COMPLETE}));
  assert_int_equal(lease_list_busy(&scene->list), 2);
  assert_int_equal(lease_list_ended(&scene->list), 1);
  assert_null(lease_list_find(&scene->list, FIRST_ID + 1));
  assert_int_equal(lease_list_find(&scene->list, FIRST_ID + 2)->id, FIRST_ID + 2);
}

static void a_batch_is_here_while_one_of_its_jobs_runs(void **state) {
  struct scene *scene = *state;
  assert_true(lease_list_has(&scene->list, BATCH));
  assert_false(lease_list_has(&scene->list, BATCH + 2));
  for (uint32_t i = 0; i < 3; i++)
    end(scene, i, OUTCOME_COMPLETE);
  assert_false(lease_list_has(&scene->list, BATCH));
}

static void what_has_ended_is_collected_and_what_runs_stays(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_SNOOZE);
  end(scene, 2, OUTCOME_COMPLETE);
  lease_list_collect(&scene->list, &scene->settling);
  assert_int_equal(scene->settling.count, 2);
  assert_int_equal(scene->settling.jobs[0].outcome, OUTCOME_SNOOZE);
  assert_int_equal(scene->settling.jobs[1].id, FIRST_ID + 2);
  assert_int_equal(scene->settling.jobs[1].lease, 7002);
  assert_int_equal(scene->list.count, 1);
  assert_int_equal(scene->list.items[0].job.id, FIRST_ID + 1);
}

static void its_queue_learns_of_what_is_collected_if_it_ran(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_UNRUN);
  lease_list_collect(&scene->list, &scene->settling);
  assert_int_equal(scene->settling.count, 1);
  assert_true(scene->queue->job_us == 0);
  assert_false(queue_handlers_wait(scene->queue));
  end(scene, 1, OUTCOME_COMPLETE);
  lease_list_collect(&scene->list, &scene->settling);
  assert_true(scene->queue->job_us == 20000); /* what kept the executor busy; the rest was waiting */
  assert_true(scene->queue->run_us == 9000000);
  assert_true(queue_handlers_wait(scene->queue));
}

static void a_lease_is_lost_once_and_its_outcome_is_dropped(void **state) {
  struct scene *scene = *state;
  struct lease *lease = lease_list_lose(&scene->list, FIRST_ID + 1, false);
  assert_non_null(lease);
  assert_true(lease->lost && lease->lost_ms > 0 && !lease->cancelled);
  assert_null(lease_list_lose(&scene->list, FIRST_ID + 1, false));
  assert_null(lease_list_lose(&scene->list, FIRST_ID + 4, false)); /* it is not here */
  assert_int_equal(lease_list_busy(&scene->list), 3);              /* it still runs */
  assert_non_null(end(scene, 1, OUTCOME_FAIL));
  lease_list_collect(&scene->list, &scene->settling);
  assert_int_equal(scene->settling.count, 1); /* for the history, if the job was cancelled */
  assert_int_equal(scene->settling.jobs[0].outcome, OUTCOME_CANCELLED);
  assert_int_equal(scene->list.count, 2);
}

static void a_lost_lease_of_a_job_that_has_not_begun_leaves_nothing(void **state) {
  struct scene *scene = *state;
  assert_non_null(lease_list_lose(&scene->list, FIRST_ID + 1, false));
  assert_non_null(end(scene, 1, OUTCOME_UNRUN));
  lease_list_collect(&scene->list, &scene->settling);
  assert_int_equal(scene->settling.count, 0);
  assert_int_equal(scene->list.count, 2);
}

static void a_lease_that_is_lost_after_its_job_ended_needs_no_cancel(void **state) {
  struct scene *scene = *state;
  end(scene, 1, OUTCOME_COMPLETE);
  assert_null(lease_list_lose(&scene->list, FIRST_ID + 1, true));
  assert_true(scene->list.items[1].cancelled);
  lease_list_collect(&scene->list, &scene->settling);
  assert_int_equal(scene->settling.count, 1);
  assert_int_equal(scene->settling.jobs[0].outcome, OUTCOME_CANCELLED);
}

static void the_culprit_of_a_death_fails_and_the_others_go_back(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_COMPLETE);
  scene->list.items[2].job.deaths = 4;
  die(scene, FIRST_ID + 1, "it died");
  assert_int_equal(outcome_of(scene, 0), OUTCOME_COMPLETE);
  assert_int_equal(outcome_of(scene, 1), OUTCOME_FAIL);
  assert_string_equal(scene->list.items[1].job.error, "it died");
  assert_int_equal(scene->list.items[1].job.duration_us, 1500);
  assert_int_equal(outcome_of(scene, 2), OUTCOME_UNRUN);
}

static void a_job_that_has_seen_a_death_and_was_alone_is_to_blame(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_COMPLETE);
  end(scene, 1, OUTCOME_COMPLETE);
  scene->list.items[2].job.deaths = 1;
  lease_list_child_died(&scene->list, &(struct child_death){.alone = true, .cause = "it died"});
  assert_int_equal(outcome_of(scene, 2), OUTCOME_FAIL);
  assert_string_equal(scene->list.items[2].job.error, "it died");
}

static void without_a_culprit_the_death_is_counted_for_all_jobs(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_COMPLETE);
  scene->list.items[2].job.deaths = 4;
  die(scene, 0, "it died");
  assert_int_equal(outcome_of(scene, 0), OUTCOME_COMPLETE);
  assert_int_equal(outcome_of(scene, 1), OUTCOME_DEATH);
  assert_null(scene->list.items[1].job.error);
  assert_int_equal(outcome_of(scene, 2), OUTCOME_DEATH); /* it was not alone */
}

static void an_orderly_end_leaves_nobody_to_blame(void **state) {
  struct scene *scene = *state;
  scene->list.items[2].job.deaths = 4;
  die(scene, 0, NULL);
  for (int i = 0; i < 3; i++)
    assert_int_equal(outcome_of(scene, i), OUTCOME_UNRUN);
}

static void what_was_never_begun_goes_back_or_is_forgotten(void **state) {
  struct scene *scene = *state;
  end(scene, 0, OUTCOME_COMPLETE);
  lease_list_drop(&scene->list, FIRST_ID + 1);
  assert_int_equal(scene->list.count, 2);
  lease_list_give_back(&scene->list, BATCH + 2);
  assert_int_equal(lease_list_busy(&scene->list), 1);
  lease_list_give_back(&scene->list, BATCH);
  assert_int_equal(lease_list_busy(&scene->list), 0);
  assert_int_equal(outcome_of(scene, 0), OUTCOME_COMPLETE);
  assert_int_equal(outcome_of(scene, 1), OUTCOME_UNRUN);
}

static void tokens_are_never_given_twice(void **state) {
  (void)state;
  int64_t first = token_next(3), second = token_next(1), third = token_next(1000);
  assert_true(first > 0);
  assert_true(second >= first + 3);
  assert_true(third >= second + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_list_takes_those_that_are_to_be_leased_and_they_run),
      TEST(a_job_ends_once_and_by_its_place_in_its_batch),
      TEST(a_batch_is_here_while_one_of_its_jobs_runs),
      TEST(what_has_ended_is_collected_and_what_runs_stays),
      TEST(its_queue_learns_of_what_is_collected_if_it_ran),
      TEST(a_lease_is_lost_once_and_its_outcome_is_dropped),
      TEST(a_lost_lease_of_a_job_that_has_not_begun_leaves_nothing),
      TEST(a_lease_that_is_lost_after_its_job_ended_needs_no_cancel),
      TEST(the_culprit_of_a_death_fails_and_the_others_go_back),
      TEST(without_a_culprit_the_death_is_counted_for_all_jobs),
      TEST(a_job_that_has_seen_a_death_and_was_alone_is_to_blame),
      TEST(an_orderly_end_leaves_nobody_to_blame),
      TEST(what_was_never_begun_goes_back_or_is_forgotten),
      cmocka_unit_test(tokens_are_never_given_twice),
  };
  log_setup(LOG_ERROR, LOG_TEXT); /* a lost lease is worth a warning */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
