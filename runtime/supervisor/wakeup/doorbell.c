#include "doorbell.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "peers.h"

/* The wait before trying again to raise a flag: a session that enqueues has locked it for a moment, to see whether it
 * is up. */
enum { RAISE_AGAIN_MS = 1 };

/* The wait before opening the doorbell again after one of its statements has failed. The statement may have been
 * cancelled. */
enum { OPEN_AGAIN_MS = 1000 };

/* `table`, `buckets` and `raised` are valid in DOORBELL_READY, DOORBELL_MISSING and DOORBELL_FAILED. */
enum doorbell_state {
  DOORBELL_CLOSED,  /* there is no session, or it is shared */
  DOORBELL_OPENING, /* LISTEN and STATEMENT_DOORBELL_KEYS are under way */
  DOORBELL_READY,   /* rings reach the worker */
  DOORBELL_MISSING, /* the table has no trigger that rings */
  DOORBELL_FAILED,  /* a statement has failed: `again` runs until the doorbell is opened again */
};

struct doorbell {
  struct connection *connection;
  const int64_t *worker_id;
  const struct queue_list *queues;
  struct wakeup *wakeup;
  enum doorbell_state state;
  uv_timer_t again; /* runs until a flag is tried again, or the doorbell is opened again */
  struct peers peers;
  int64_t table; /* oid of pgq_jobs, which every ring names */
  int32_t *buckets;
  bool *raised; /* for each bucket: its flag is up */
  int count;    /* number of buckets */
  bool wanted;  /* the flags should be up */
  int acts;     /* number of acts under way */
  bool logged;  /* it was logged that the worker cannot be woken */
};

static void on_again(uv_timer_t *timer);

struct doorbell *doorbell_new(uv_loop_t *loop, struct connection *connection, const int64_t *worker_id,
                              const struct queue_list *queues, struct wakeup *wakeup) {
  struct doorbell *bell = memory_new(sizeof *bell);
  *bell = (struct doorbell){.connection = connection, .worker_id = worker_id, .queues = queues, .wakeup = wakeup};
  uv_timer_init(loop, &bell->again);
  bell->again.data = bell;
  return bell;
}

static void free_doorbell(uv_handle_t *timer) {
  struct doorbell *bell = timer->data;
  free(bell->buckets);
  free(bell->raised);
  peers_free(&bell->peers);
  free(bell);
}

void doorbell_free(struct doorbell *bell) {
  if (bell)
    uv_close((uv_handle_t *)&bell->again, free_doorbell);
}

/* ── statements ── */

static void act(struct doorbell *bell, enum statement statement, const struct parameters *parameters) {
  bell->acts++;
  connection_send(bell->connection, statement, parameters);
  connection_sync(bell->connection);
}

/* Sends a statement for the buckets whose flag is up, or for those whose flag is down. */
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

/* Raises or lowers the flags as wanted, when no statement is under way. The probe is reliable only if all flags are up
 * before it. */
static void advance(struct doorbell *bell) {
  int raised = count_raised(bell);
  if (bell->state != DOORBELL_READY || bell->acts > 0 || uv_is_active((uv_handle_t *)&bell->again))
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
  if (bell->state == DOORBELL_FAILED)
    doorbell_open(bell);
  else
    advance(bell);
}

static void ask_keys(struct doorbell *bell) {
  struct parameters parameters = {0};
  const char **names = memory_new((size_t)(bell->queues->count + 1) * sizeof *names);
  int count = 0;
  for (const struct queue *queue = bell->queues->first; queue; queue = queue->next)
    if (queue->registered)
      names[count++] = queue->name;
  parameters_add_text_array(&parameters, names, count);
  act(bell, STATEMENT_DOORBELL_KEYS, &parameters);
  parameters_free(&parameters);
  free(names);
}

void doorbell_open(struct doorbell *bell) {
  bell->state = DOORBELL_OPENING;
  act(bell, STATEMENT_DOORBELL_LISTEN, NULL);
  ask_keys(bell);
}

void doorbell_check_table(struct doorbell *bell) {
  if ((bell->state == DOORBELL_READY || bell->state == DOORBELL_MISSING) && bell->acts == 0)
    ask_keys(bell);
}

void doorbell_queues_changed(struct doorbell *bell) {
  if (bell->state == DOORBELL_READY || bell->state == DOORBELL_MISSING)
    ask_keys(bell);
}

/* Sends a statement with one number, which is not one of the acts: flags go up and down meanwhile. */
static void send_number(struct doorbell *bell, enum statement statement, int64_t number) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, number);
  connection_send(bell->connection, statement, &parameters);
  connection_sync(bell->connection);
  parameters_free(&parameters);
}

void doorbell_ask_peers(struct doorbell *bell) {
  if (bell->state != DOORBELL_CLOSED && *bell->worker_id != 0)
    send_number(bell, STATEMENT_DOORBELL_PEERS, *bell->worker_id);
}

void doorbell_answer(struct doorbell *bell, int64_t ring) {
  if (bell->state == DOORBELL_READY)
    send_number(bell, STATEMENT_DOORBELL_ANSWER, ring);
}

static void set_peers(struct doorbell *bell, const PGresult *result) {
  if (result)
    peers_take(&bell->peers, result);
  else
    peers_free(&bell->peers);
  wakeup_set_shared(bell->wakeup, peers_share(&bell->peers));
}

void doorbell_down(struct doorbell *bell) {
  bool awaited = bell->wanted && bell->state == DOORBELL_READY;
  bell->state = DOORBELL_CLOSED;
  bell->acts = bell->count = 0;
  uv_timer_stop(&bell->again);
  set_peers(bell, NULL);
  if (awaited) /* the wakeup must not wait for flags that are not raised */
    wakeup_raised(bell->wakeup, true);
}

bool doorbell_flag(struct doorbell *bell, bool up) {
  bell->wanted = up;
  advance(bell);
  return bell->state == DOORBELL_READY;
}

void doorbell_probe(struct doorbell *bell) {
  if (bell->state == DOORBELL_READY && bell->acts == 0 && count_raised(bell) == bell->count)
    probe(bell);
}

/* ── results ── */

static void log_deaf(struct doorbell *bell, const char *reason) {
  log_line(bell->logged ? LOG_DEBUG : LOG_WARN, "this worker cannot be woken: new jobs are found at the next poll",
           LOG_T("reason", reason));
  bell->logged = true;
}

/* Returns whether the answer names another table than the one before, or another state of its trigger. */
static bool is_other_table(const struct doorbell *bell, const PGresult *result) {
  if (PQntuples(result) == 0)
    return false;
  bool rings = *PQgetvalue(result, 0, DOORBELL_KEYS_TRIGGER);
  return result_i64(result, 0, DOORBELL_KEYS_TABLE) != bell->table || rings != (bell->state == DOORBELL_READY);
}

/* Returns whether the answer names a bucket that has no flag: the queues have changed. */
static bool has_other_bucket(const struct doorbell *bell, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++) {
    int i = 0;
    while (i < bell->count && bell->buckets[i] != result_i32(result, row, DOORBELL_KEYS_BUCKET))
      i++;
    if (i == bell->count)
      return true;
  }
  return false;
}

static void take_keys(struct doorbell *bell, const PGresult *result) {
  if (bell->state == DOORBELL_READY || bell->state == DOORBELL_MISSING) {
    if (is_other_table(bell, result))
      connection_fail(bell->connection, "the table pgq_jobs or its trigger was created anew");
    else if (has_other_bucket(bell, result))
      connection_fail(bell->connection, "the script registers other queues");
    return;
  }
  if (bell->state != DOORBELL_OPENING) /* LISTEN has failed */
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
  bell->state = *PQgetvalue(result, 0, DOORBELL_KEYS_TRIGGER) ? DOORBELL_READY : DOORBELL_MISSING;
  if (bell->state == DOORBELL_READY)
    bell->logged = false;
  else
    log_deaf(bell, "pgq_jobs has no trigger pgq_ring that is enabled; 'pgq-lua migrate' creates it");
}

static void mark(struct doorbell *bell, int32_t bucket, bool raised) {
  for (int i = 0; i < bell->count; i++)
    if (bell->buckets[i] == bucket)
      bell->raised[i] = raised;
}

/* After a failed statement the worker does not know which flags are up: it lowers all of them, and later opens the
 * doorbell again. */
static void fail(struct doorbell *bell, enum statement statement, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  bool awaited = bell->wanted && bell->state == DOORBELL_READY;
  if (!primary) /* the message is libpq's, not the server's: the connection is lost, and doorbell_down() follows */
    return;
  log_deaf(bell, primary);
  bell->state = DOORBELL_FAILED;
  uv_timer_start(&bell->again, on_again, OPEN_AGAIN_MS, 0);
  if (statement == STATEMENT_DOORBELL_LOWER_FLAGS) { /* while flags stay up, sessions ring for nothing */
    connection_fail(bell->connection, "the doorbell's flags could not be lowered");
    return;
  }
  for (int i = 0; i < bell->count; i++)
    bell->raised[i] = true;
  if (bell->count > 0)
    act_on(bell, STATEMENT_DOORBELL_LOWER_FLAGS, true);
  if (awaited)
    wakeup_raised(bell->wakeup, true);
}

static void take_probe(struct doorbell *bell, bool clear) {
  if (!bell->wanted || bell->acts > 0) {
    advance(bell);
  } else if (count_raised(bell) < bell->count) {
    uv_timer_start(&bell->again, on_again, RAISE_AGAIN_MS, 0);
  } else {
    wakeup_raised(bell->wakeup, clear);
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

/* If one of these statements fails, more workers look, or this one looks at once. */
static bool take_other(struct doorbell *bell, enum statement statement, const PGresult *result) {
  if (statement == STATEMENT_DOORBELL_PEERS)
    set_peers(bell, result_failed(result) ? NULL : result);
  return statement == STATEMENT_DOORBELL_PEERS || statement == STATEMENT_DOORBELL_ANSWER;
}

bool doorbell_result(struct doorbell *bell, enum statement statement, const PGresult *result) {
  if (take_other(bell, statement, result))
    return true;
  if (!is_ours(statement))
    return false;
  bell->acts -= bell->acts > 0;
  if (result_failed(result))
    fail(bell, statement, result);
  else
    take(bell, statement, result);
  return true;
}

/* A ring is told from others by its transaction, and by the server process that sent it, which no session can
 * pretend. */
static int64_t ring_of(int64_t transaction, int pid) {
  return (int64_t)((uint64_t)pid << 40 | ((uint64_t)transaction & ((UINT64_C(1) << 40) - 1)));
}

/* A ring without the number of a transaction wakes all workers: it is about many jobs, or the table is of an older
 * version. */
static void take_ring(struct doorbell *bell, const char *transaction, int pid) {
  if (*transaction != ':') {
    wakeup_rung(bell->wakeup);
    return;
  }
  int64_t ring = ring_of(strtoll(transaction + 1, NULL, 10), pid);
  wakeup_rung_by(bell->wakeup, ring, peers_wait_ms(&bell->peers, *bell->worker_id, ring));
}

/* "answered:16384:RING" counts only if a peer has sent it: a notification of another role must not keep a worker from
 * looking. */
static bool take_answer(struct doorbell *bell, const char *payload, int pid) {
  static const char ANSWERED[] = "answered:";
  char *rest;
  if (strncmp(payload, ANSWERED, sizeof ANSWERED - 1) != 0)
    return false;
  if (peers_include(&bell->peers, pid) && strtoll(payload + sizeof ANSWERED - 1, &rest, 10) == bell->table &&
      *rest == ':')
    wakeup_answered(bell->wakeup, strtoll(rest + 1, NULL, 10));
  return true;
}

/* The payload is the table's oid, the bucket and the transaction ("16384:77:1234"). Notifications for other tables and
 * queues come in, too. */
void doorbell_notified(struct doorbell *bell, const char *payload, int pid) {
  char *rest;
  if (bell->state != DOORBELL_READY || take_answer(bell, payload, pid) || strtoll(payload, &rest, 10) != bell->table ||
      *rest != ':')
    return;
  long bucket = strtol(rest + 1, &rest, 10);
  for (int i = 0; i < bell->count; i++)
    if (bell->buckets[i] == bucket) {
      take_ring(bell, rest, pid);
      return;
    }
}
