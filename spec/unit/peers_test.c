#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>

#include "peers.h"
#include "statements.h"

/* Fills the list of the worker `own`, of the workers 1 to `count`. */
static void know(struct peers *peers, int64_t own, int count) {
  PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
  PGresAttDesc attributes[2] = {{.name = "id", .format = 1}, {.name = "pid", .format = 1}};
  PQsetResultAttrs(result, 2, attributes);
  int row = 0;
  for (int64_t id = 1; id <= count; id++) {
    uint64_t wire_id = htobe64((uint64_t)id);
    uint32_t wire_pid = htobe32((uint32_t)(1000 + id));
    if (id == own)
      continue;
    PQsetvalue(result, row, DOORBELL_PEERS_ID, (char *)&wire_id, sizeof wire_id);
    PQsetvalue(result, row++, DOORBELL_PEERS_PID, (char *)&wire_pid, sizeof wire_pid);
  }
  peers_take(peers, result);
  PQclear(result);
}

/* The waits of all workers of a fleet after a ring: how many look at once, and the greatest wait. */
static int look_at_once(int count, int64_t ring, int64_t *most_ms, int *firsts) {
  int at_once = 0;
  *most_ms = 0;
  for (int64_t id = 1; id <= count; id++) {
    struct peers peers = {0};
    know(&peers, id, count);
    int64_t wait_ms = peers_wait_ms(&peers, id, ring);
    at_once += wait_ms == 0;
    if (firsts)
      firsts[id - 1] += wait_ms == 0;
    if (wait_ms > 0)
      assert_in_range(wait_ms, 8, 75);
    if (wait_ms > *most_ms)
      *most_ms = wait_ms;
    peers_free(&peers);
  }
  return at_once;
}

static void up_to_three_workers_all_look_at_once(void **state) {
  (void)state;
  int64_t most_ms;
  for (int count = 1; count <= 3; count++)
    for (int64_t ring = 1; ring < 20; ring++)
      assert_int_equal(look_at_once(count, ring, &most_ms, NULL), count);
}

static void of_more_workers_two_look_at_once_and_all_within_100_ms(void **state) {
  (void)state;
  static const int counts[] = {4, 5, 40, 400};
  int64_t most_ms;
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
    for (int64_t ring = 1; ring < 5; ring++) {
      assert_int_equal(look_at_once(counts[i], ring << 40 | 77, &most_ms, NULL), 2);
      assert_in_range(most_ms, 8, 75);
    }
}

static void each_worker_is_among_the_first_at_some_rings(void **state) {
  (void)state;
  int firsts[20] = {0};
  int64_t most_ms;
  for (int64_t ring = 0; ring < 200; ring++)
    look_at_once(20, (int64_t)4321 << 40 | (100 + ring), &most_ms, firsts);
  for (int i = 0; i < 20; i++)
    assert_in_range(firsts[i], 5, 45);
}

static void only_more_than_two_peers_make_some_wait(void **state) {
  (void)state;
  for (int count = 1; count <= 5; count++) {
    struct peers peers = {0};
    assert_false(peers_share(&peers));
    know(&peers, 1, count);
    assert_int_equal(peers_share(&peers), count > 3);
    peers_free(&peers);
  }
}

static void a_session_is_that_of_a_peer_or_not(void **state) {
  (void)state;
  struct peers peers = {0};
  assert_false(peers_include(&peers, 1002));
  know(&peers, 1, 3);
  assert_true(peers_include(&peers, 1002));
  assert_false(peers_include(&peers, 1001));
  assert_false(peers_include(&peers, 0));
  peers_free(&peers);
  assert_false(peers_include(&peers, 1002));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(up_to_three_workers_all_look_at_once),
      cmocka_unit_test(of_more_workers_two_look_at_once_and_all_within_100_ms),
      cmocka_unit_test(each_worker_is_among_the_first_at_some_rings),
      cmocka_unit_test(only_more_than_two_peers_make_some_wait),
      cmocka_unit_test(a_session_is_that_of_a_peer_or_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
