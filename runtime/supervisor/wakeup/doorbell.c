#include "doorbell.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

/* Somebody who enqueues may just be trying a flag of ours: then it cannot be raised, for a moment. */
enum { RAISE_AGAIN_MS = 1 };

/* A statement of the doorbell has failed; somebody cancelled it, perhaps. */
enum { OPEN_AGAIN_MS = 1000 };

struct doorbell {
  struct connection *connection;
  const struct queue_list *queues;
  const struct doorbell_events *events;
  void *owner;
  uv_timer_t again;
  int64_t table; /* oid of pgq_jobs, which every ring names */
  int32_t *buckets;
  bool *raised; /* of each bucket: its flag is up */
  int count;
  bool hears;  /* LISTEN has been answered, and the buckets are known */
  bool wanted; /* the flags are to be up */
  int acts;    /* under way */
  bool failed; /* a statement has: all begins anew in a moment */
  bool told;   /* that there is no bell has been logged */
};

static void on_again(uv_timer_t *timer);

struct doorbell *doorbell_new(uv_loop_t *loop, struct connection *connection, const struct queue_list *queues,
                              const struct doorbell_events *events, void *owner) {
  struct doorbell *bell = memory_new(sizeof *bell);
  *bell = (struct doorbell){.connection = connection, .queues = queues, .events = events, .owner = owner};
  uv_timer_init(loop, &bell->again);
  bell->again.data = bell;
  return bell;
}

static void free_doorbell(uv_handle_t *timer) {
  struct doorbell *bell = timer->data;
  free(bell->buckets);
  free(bell->raised);
  free(bell);
}

void doorbell_free(struct doorbell *bell) {
  if (bell)
    uv_close((uv_handle_t *)&bell->again, free_doorbell);
}

/* ── what is sent ── */

static void act(struct doorbell *bell, enum statement statement, const struct parameters *parameters) {
  bell->acts++;
  connection_send(bell->connection, statement, parameters);
  connection_sync(bell->connection);
}

/* An act on the buckets whose flag is up, or on those whose flag is not. */
static void act_on(struct doorbell *bell, enum statement statement, bool raised) {
  struct parameters parameters = {0};
  int32_t *buckets = memory_new((size_t)bell->count * sizeof *buckets);
  int count = 0;
  for (int i = 0; i < bell->count; i++)
    if (bell->raised[i] == raised)
      buckets[count++] = bell->buckets[i];
  parameters_add_i32_array(&parameters, buckets, count);
  act(bell, statement, &parameters);
  parameters_free(&parameters);
  free(buckets);
}

static int count_raised(const struct doorbell *bell) {
  int count = 0;
  for (int i = 0; i < bell->count; i++)
    count += bell->raised[i];
  return count;
}

static void probe(struct doorbell *bell) {
  struct parameters parameters = {0};
  parameters_add_i32_array(&parameters, bell->buckets, bell->count);
  act(bell, STATEMENT_DOORBELL_CHECK_ENQUEUERS, &parameters);
  parameters_free(&parameters);
}

/* Nothing is under way: brings the flags to where they are wanted. The probe is of use when all of them are up. */
static void advance(struct doorbell *bell) {
  int raised = count_raised(bell);
  if (!bell->hears || bell->acts > 0 || uv_is_active((uv_handle_t *)&bell->again))
    return;
  if (bell->wanted && raised < bell->count) {
    act_on(bell, STATEMENT_DOORBELL_RAISE_FLAGS, false);
    probe(bell);
  } else if (!bell->wanted && raised > 0) {
    act_on(bell, STATEMENT_DOORBELL_LOWER_FLAGS, true);
  }
}

static void on_again(uv_timer_t *timer) {
  struct doorbell *bell = timer->data;
  if (!connection_is_up(bell->connection))
    return;
  if (bell->failed)
    doorbell_open(bell);
  else
    advance(bell);
}

void doorbell_open(struct doorbell *bell) {
  struct parameters parameters = {0};
  bell->failed = false;
  const char **names = memory_new((size_t)bell->queues->count * sizeof *names);
  int count = 0;
  for (const struct queue *queue = bell->queues->first; queue; queue = queue->next)
    names[count++] = queue->name;
  parameters_add_text_array(&parameters, names, count);
  act(bell, STATEMENT_DOORBELL_LISTEN, NULL);
  act(bell, STATEMENT_DOORBELL_KEYS, &parameters);
  parameters_free(&parameters);
  free(names);
}

void doorbell_down(struct doorbell *bell) {
  bool waited = bell->wanted && bell->hears;
  bell->hears = false;
  bell->acts = bell->count = 0;
  uv_timer_stop(&bell->again);
  if (waited) /* nobody will be heard: who waits for the flags is not to wait for ever */
    bell->events->raised(bell->owner, true);
}

bool doorbell_flag(struct doorbell *bell, bool up) {
  bell->wanted = up;
  advance(bell);
  return bell->hears;
}

void doorbell_probe(struct doorbell *bell) {
  if (bell->hears && bell->acts == 0 && count_raised(bell) == bell->count)
    probe(bell);
}

/* ── what comes back ── */

static void complain(struct doorbell *bell, const char *why) {
  log_line(bell->told ? LOG_DEBUG : LOG_WARN, "nobody can wake this worker: jobs wait for the polling interval",
           LOG_T("reason", why));
  bell->told = true;
}

static void take_keys(struct doorbell *bell, const PGresult *result) {
  if (bell->failed) /* LISTEN has: all begins anew in a moment */
    return;
  bell->count = PQntuples(result);
  bell->buckets = memory_resize(bell->buckets, (size_t)bell->count * sizeof *bell->buckets);
  bell->raised = memory_resize(bell->raised, (size_t)bell->count * sizeof *bell->raised);
  for (int i = 0; i < bell->count; i++) {
    bell->buckets[i] = result_i32(result, i, DOORBELL_KEYS_BUCKET);
    bell->raised[i] = false;
  }
  if (bell->count == 0)
    return;
  bell->table = result_i64(result, 0, DOORBELL_KEYS_TABLE);
  bell->hears = *PQgetvalue(result, 0, DOORBELL_KEYS_TRIGGER);
  bell->told = bell->told && !bell->hears;
  if (!bell->hears)
    complain(bell, "pgq_jobs has no trigger pgq_ring that is enabled; 'pgq-lua migrate' makes it");
}

static void mark(struct doorbell *bell, int32_t bucket, bool raised) {
  for (int i = 0; i < bell->count; i++)
    if (bell->buckets[i] == bucket)
      bell->raised[i] = raised;
}

/* Which flags are up is not known: all are taken down, and all begins anew in a moment. */
static void fail(struct doorbell *bell, enum statement statement, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  bool waited = bell->wanted && bell->hears;
  if (!primary) /* not the server's word: the connection is lost, and doorbell_down() follows */
    return;
  complain(bell, primary);
  bell->failed = true;
  bell->hears = false;
  uv_timer_start(&bell->again, on_again, OPEN_AGAIN_MS, 0);
  if (statement == STATEMENT_DOORBELL_LOWER_FLAGS) { /* flags that stay up would be rung at for ever */
    connection_fail(bell->connection, "the doorbell's flags could not be lowered");
    return;
  }
  for (int i = 0; i < bell->count; i++)
    bell->raised[i] = true;
  if (bell->count > 0)
    act_on(bell, STATEMENT_DOORBELL_LOWER_FLAGS, true);
  if (waited)
    bell->events->raised(bell->owner, true);
}

static void take_probe(struct doorbell *bell, bool clear) {
  if (!bell->wanted || bell->acts > 0) {
    advance(bell);
  } else if (count_raised(bell) < bell->count) {
    uv_timer_start(&bell->again, on_again, RAISE_AGAIN_MS, 0);
  } else {
    bell->events->raised(bell->owner, clear);
  }
}

static void take(struct doorbell *bell, enum statement statement, const PGresult *result) {
  switch (statement) {
  case STATEMENT_DOORBELL_KEYS:
    take_keys(bell, result);
    advance(bell);
    break;
  case STATEMENT_DOORBELL_RAISE_FLAGS:
    for (int row = 0; row < PQntuples(result); row++)
      mark(bell, result_i32(result, row, 0), *PQgetvalue(result, row, 1));
    break;
  case STATEMENT_DOORBELL_LOWER_FLAGS:
    for (int i = 0; i < bell->count; i++)
      bell->raised[i] = false;
    advance(bell);
    break;
  case STATEMENT_DOORBELL_CHECK_ENQUEUERS:
    take_probe(bell, *PQgetvalue(result, 0, 0));
    break;
  default:
    break;
  }
}

static bool is_ours(enum statement statement) {
  return statement == STATEMENT_DOORBELL_LISTEN || statement == STATEMENT_DOORBELL_KEYS ||
         statement == STATEMENT_DOORBELL_RAISE_FLAGS || statement == STATEMENT_DOORBELL_CHECK_ENQUEUERS ||
         statement == STATEMENT_DOORBELL_LOWER_FLAGS;
}

bool doorbell_result(struct doorbell *bell, enum statement statement, const PGresult *result) {
  if (!is_ours(statement))
    return false;
  bell->acts -= bell->acts > 0;
  if (result_failed(result))
    fail(bell, statement, result);
  else
    take(bell, statement, result);
  return true;
}

/* "16384:77": the table's oid and the bucket; another table's rings come here too, and those for other queues. */
void doorbell_notified(struct doorbell *bell, const char *payload) {
  char *rest;
  if (!bell->hears || strtoll(payload, &rest, 10) != bell->table || *rest != ':')
    return;
  long bucket = strtol(rest + 1, NULL, 10);
  for (int i = 0; i < bell->count; i++)
    if (bell->buckets[i] == bucket) {
      bell->events->rung(bell->owner);
      return;
    }
}

int64_t doorbell_table(const struct doorbell *bell) {
  return bell->table;
}
