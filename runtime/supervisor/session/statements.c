#include "statements.h"

struct statement_row {
  const char *name;
  const char *text;
  bool prepared; /* those of the holds; the rest is sent now and then, and parsed each time */
  int count;
  Oid types[8];
};

static const struct statement_row rows[STATEMENT_COUNT] = {
    /*
     * The settings of our sessions. There is one good plan for each statement, an index range scan, and the statistics
     * of a table that was empty a minute ago must not choose another (see DESIGN.md, "The claim never slows down").
     * With $2 they hold for the transaction only, in a session that is not ours.
     */
    [STATEMENT_SESSION] = {.name = "session",
                           .text = "SELECT set_config(name, value, $2) FROM (VALUES"
                                   " ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'),"
                                   " ('enable_bitmapscan', 'off'), ('enable_sort', 'off'), ('jit', 'off'),"
                                   " ('default_transaction_read_only', 'off'),"
                                   " ('default_transaction_isolation', 'read committed'), ('statement_timeout', "
                                   "'60000'), ('lock_timeout', '10000'),"
                                   " ('idle_in_transaction_session_timeout', $1), ('tcp_keepalives_idle', '10'),"
                                   " ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),"
                                   " ('tcp_user_timeout', '15000')) AS settings (name, value)",
                           .count = 2,
                           .types = {OID_TEXT, OID_BOOL}},

    /* The number of the server process, which differs from the one that a pooler gave the client. */
    [STATEMENT_WHO] = {.name = "who", .text = "SELECT pg_backend_pid()"},

    /* The modes are named because a database may have other defaults: at repeatable read, claims fail. */
    [STATEMENT_BEGIN] = {.name = "begin", .text = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", .prepared = true},
    [STATEMENT_COMMIT] = {.name = "commit", .text = "COMMIT", .prepared = true},
    [STATEMENT_ROLLBACK] = {.name = "rollback", .text = "ROLLBACK", .prepared = true},

    /*
     * Takes due jobs of the queues $1 that lie behind their floors ($5, $6), at most $2 of each and $4 altogether; data
     * longer than $3 bytes stays behind. One range scan of the fetch index per queue.
     */
    [STATEMENT_CLAIM] = {.name = "claim",
                         .text = "SELECT nullif(queue.position, 1), job.id,"
                                 " CASE WHEN job.tableoid = 'pgq_jobs'::regclass THEN job.ctid END,"
                                 " job.run_after, nullif(job.created_at, job.run_after), nullif(job.attempt, 0),"
                                 " nullif(job.retry_waits, '{1m0s,10m0s,30m0s}'), job.lease,"
                                 " nullif(job.suspect, false),"
                                 " CASE WHEN octet_length(job.data) > $3::int4 THEN octet_length(job.data) END,"
                                 " CASE WHEN octet_length(job.data) <= $3::int4 THEN job.data END"
                                 " FROM unnest($1::text[], $2::int4[], $5::timestamptz[], $6::int8[])"
                                 "  WITH ORDINALITY AS queue (name, most, floor, floor_id, position)"
                                 " CROSS JOIN LATERAL ("
                                 "  SELECT tableoid, ctid, id, attempt, created_at, run_after, retry_waits, lease,"
                                 "   suspect, data"
                                 "  FROM pgq_jobs"
                                 "  WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()"
                                 "   AND (run_after, id) > (queue.floor, queue.floor_id)"
                                 "  ORDER BY run_after, id LIMIT queue.most FOR UPDATE SKIP LOCKED) AS job"
                                 " LIMIT $4::int8",
                         .prepared = true,
                         .count = 6,
                         .types = {OID_TEXT_ARRAY, OID_INT4_ARRAY, OID_INT4, OID_INT8, OID_TIMESTAMPTZ_ARRAY,
                                   OID_INT8_ARRAY}},

    /* The data of one job that the claim left behind; in the claim's transaction. */
    [STATEMENT_DATA] = {.name = "data",
                        .text = "SELECT data FROM pgq_jobs WHERE id = $1",
                        .prepared = true,
                        .count = 1,
                        .types = {OID_INT8}},

    /*
     * Held jobs, by where their rows stand: a locked row does not move, and this takes a third of the time that the
     * primary key would. Only in the transaction that has claimed them.
     */
    [STATEMENT_COMPLETE] = {.name = "complete",
                            .text = "DELETE FROM pgq_jobs WHERE ctid = ANY ($1::tid[])",
                            .prepared = true,
                            .count = 1,
                            .types = {OID_TID_ARRAY}},
    [STATEMENT_PRESERVE] =
        {.name = "preserve",
         .text = "UPDATE pgq_jobs SET ran_at = statement_timestamp(), attempt = least(attempt, 2147483646) + 1,"
                 " error = NULL WHERE ctid = ANY ($1::tid[])",
         .prepared = true,
         .count = 1,
         .types = {OID_TID_ARRAY}},

    /* Those that were locked again since, or stand in a partition. */
    [STATEMENT_COMPLETE_BY_ID] = {.name = "complete_by_id",
                                  .text = "DELETE FROM pgq_jobs WHERE id = ANY ($1::int8[])",
                                  .prepared = true,
                                  .count = 1,
                                  .types = {OID_INT8_ARRAY}},
    [STATEMENT_PRESERVE_BY_ID] =
        {.name = "preserve_by_id",
         .text = "UPDATE pgq_jobs SET ran_at = statement_timestamp(), attempt = least(attempt, 2147483646) + 1,"
                 " error = NULL WHERE id = ANY ($1::int8[])",
         .prepared = true,
         .count = 1,
         .types = {OID_INT8_ARRAY}},

    /*
     * The same for leased jobs, each with its token: who lost a lease can write nothing. The ids of those that were
     * written come back.
     */
    [STATEMENT_COMPLETE_LEASED] = {.name = "complete_leased",
                                   .text = "DELETE FROM pgq_jobs AS job"
                                           " USING unnest($1::int8[], $2::int8[]) AS done (id, lease)"
                                           " WHERE job.id = done.id AND job.lease = done.lease RETURNING job.id",
                                   .prepared = true,
                                   .count = 2,
                                   .types = {OID_INT8_ARRAY, OID_INT8_ARRAY}},
    [STATEMENT_PRESERVE_LEASED] = {.name = "preserve_leased",
                                   .text = "UPDATE pgq_jobs AS job SET ran_at = statement_timestamp(), error = NULL,"
                                           " lease = NULL"
                                           " FROM unnest($1::int8[], $2::int8[]) AS done (id, lease)"
                                           " WHERE job.id = done.id AND job.lease = done.lease RETURNING job.id",
                                   .prepared = true,
                                   .count = 2,
                                   .types = {OID_INT8_ARRAY, OID_INT8_ARRAY}},

    /*
     * Jobs $1 (leased with the tokens $2, or held: null) failed with the messages $4: each runs again after $3 ms, or,
     * without a wait, is kept as failed. A lease has counted the attempt already.
     */
    [STATEMENT_FAIL] =
        {.name = "fail",
         .text = "UPDATE pgq_jobs AS job SET error = failed.error, lease = NULL,"
                 " attempt = least(job.attempt, 2147483646) + CASE WHEN failed.lease IS NULL THEN 1 ELSE 0 END,"
                 " run_after = CASE WHEN failed.wait_ms IS NULL THEN job.run_after"
                 "  ELSE statement_timestamp() + failed.wait_ms * interval '1 millisecond' END,"
                 " retry_waits = CASE WHEN failed.wait_ms IS NULL THEN job.retry_waits"
                 "  ELSE job.retry_waits[array_lower(job.retry_waits, 1) + 1:] END,"
                 " ran_at = CASE WHEN failed.wait_ms IS NULL THEN statement_timestamp() END"
                 " FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[]) AS failed (id, lease, wait_ms, error)"
                 " WHERE job.id = failed.id AND job.lease IS NOT DISTINCT FROM failed.lease RETURNING job.id",
         .prepared = true,
         .count = 4,
         .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_INT8_ARRAY, OID_TEXT_ARRAY}},

    /* Leased jobs $1 go back as if they had not been claimed, due at $3 as before. */
    [STATEMENT_RELEASE] =
        {.name = "release",
         .text = "UPDATE pgq_jobs AS job SET run_after = freed.run_after, lease = NULL, attempt = job.attempt - 1"
                 " FROM unnest($1::int8[], $2::int8[], $3::timestamptz[]) AS freed (id, lease, run_after)"
                 " WHERE job.id = freed.id AND job.lease = freed.lease RETURNING job.id",
         .prepared = true,
         .count = 3,
         .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_TIMESTAMPTZ_ARRAY}},

    /* Jobs $1 (leased with the tokens $2, or held: null) go back too, and are to run alone next time. */
    [STATEMENT_SUSPECT] =
        {.name = "suspect",
         .text = "UPDATE pgq_jobs AS job SET suspect = true, run_after = freed.run_after, lease = NULL,"
                 " attempt = job.attempt - CASE WHEN freed.lease IS NULL THEN 0 ELSE 1 END"
                 " FROM unnest($1::int8[], $2::int8[], $3::timestamptz[]) AS freed (id, lease, run_after)"
                 " WHERE job.id = freed.id AND job.lease IS NOT DISTINCT FROM freed.lease RETURNING job.id",
         .prepared = true,
         .count = 3,
         .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_TIMESTAMPTZ_ARRAY}},

    /*
     * Jobs $1 (leased with the tokens $2, or held: null) run again after $3 ms, and this was no attempt.
     */
    [STATEMENT_SNOOZE] =
        {.name = "snooze",
         .text = "UPDATE pgq_jobs AS job SET run_after = statement_timestamp() + snoozed.ms * interval '1 millisecond',"
                 " lease = NULL, suspect = false,"
                 " attempt = job.attempt - CASE WHEN snoozed.lease IS NULL THEN 0 ELSE 1 END"
                 " FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS snoozed (id, lease, ms)"
                 " WHERE job.id = snoozed.id AND job.lease IS NOT DISTINCT FROM snoozed.lease RETURNING job.id",
         .prepared = true,
         .count = 3,
         .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_INT8_ARRAY}},

    /* Held jobs $1 become leased with the tokens $2, each for $3 ms: the lock may go. */
    [STATEMENT_LEASE] =
        {.name = "lease",
         .text = "UPDATE pgq_jobs AS job SET lease = leased.lease, attempt = least(job.attempt, 2147483646) + 1,"
                 " run_after = statement_timestamp() + leased.ms * interval '1 millisecond'"
                 " FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS leased (id, lease, ms) WHERE job.id = leased.id",
         .prepared = true,
         .count = 3,
         .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_INT8_ARRAY}},

    /*
     * Leases $1 with the tokens $2 last $3 ms from now; one with 0 is left as it is. A row that somebody has locked is
     * left for the next time: one would otherwise hold up all. The ids of leases that are lost come back.
     */
    [STATEMENT_EXTEND] = {.name = "extend",
                          .text = "WITH held AS (SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS held (id, "
                                  "lease, ms)), mine AS ("
                                  " SELECT job.id, held.ms FROM held CROSS JOIN LATERAL (SELECT id FROM pgq_jobs"
                                  "  WHERE pgq_jobs.id = held.id AND pgq_jobs.lease = held.lease AND held.ms > 0"
                                  "  FOR UPDATE SKIP LOCKED) AS job),"
                                  " extended AS (UPDATE pgq_jobs AS job"
                                  "  SET run_after = statement_timestamp() + mine.ms * interval '1 millisecond'"
                                  "  FROM mine WHERE job.id = mine.id)"
                                  " SELECT held.id FROM held WHERE NOT EXISTS (SELECT FROM pgq_jobs AS job"
                                  "  WHERE job.id = held.id AND job.lease = held.lease)",
                          .count = 3,
                          .types = {OID_INT8_ARRAY, OID_INT8_ARRAY, OID_INT8_ARRAY}},

    /*
     * Jobs $1 whose lock was lost with its session, or whose settling failed: locks those that are still as they were
     * (attempts $2, tokens $3, due times $4) and that nobody else holds. Their ids come back.
     */
    [STATEMENT_RELOCK] =
        {.name = "relock",
         .text = "SELECT job.id FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::timestamptz[])"
                 " AS wanted (id, attempt, lease, run_after)"
                 " CROSS JOIN LATERAL (SELECT id FROM pgq_jobs WHERE pgq_jobs.id = wanted.id AND ran_at IS NULL"
                 "  AND pgq_jobs.lease IS NOT DISTINCT FROM wanted.lease AND (wanted.lease IS NOT NULL"
                 "   OR least(pgq_jobs.attempt, 2147483646) = wanted.attempt AND pgq_jobs.run_after = wanted.run_after)"
                 "  FOR UPDATE SKIP LOCKED) AS job",
         .prepared = true,
         .count = 4,
         .types = {OID_INT8_ARRAY, OID_INT4_ARRAY, OID_INT8_ARRAY, OID_TIMESTAMPTZ_ARRAY}},

    /*
     * Before sleeping: is something due in one of the queues $1 after all, and when does the next job fall due? It is
     * asked in the claim's transaction, whose now() is over: jobs have failed, and are due again, since then.
     */
    [STATEMENT_LOOK] =
        {.name = "look",
         .text = "SELECT queue.position,"
                 " EXISTS (SELECT FROM pgq_jobs WHERE queue_name = queue.name AND ran_at IS NULL"
                 "  AND run_after <= statement_timestamp()),"
                 " (SELECT ceil(extract(epoch FROM run_after - clock_timestamp()) * 1000)::int8 FROM pgq_jobs"
                 "  WHERE queue_name = queue.name AND ran_at IS NULL AND run_after > statement_timestamp() AND "
                 "run_after < 'infinity'"
                 "  ORDER BY run_after, id LIMIT 1)"
                 " FROM unnest($1::text[]) WITH ORDINALITY AS queue (name, position)",
         .prepared = true,
         .count = 1,
         .types = {OID_TEXT_ARRAY}},

    /* What the worker needs and does not find: names of columns, or of a table. No rows: all is there. */
    [STATEMENT_CHECK] =
        {.name = "check",
         .text = "SELECT CASE WHEN to_regclass(wanted.relation) IS NULL THEN 'table ' || wanted.relation"
                 "  ELSE 'column ' || wanted.relation || '.' || wanted.name END"
                 " FROM (VALUES ('pgq_jobs', 'id'), ('pgq_jobs', 'created_at'), ('pgq_jobs', 'queue_name'),"
                 "  ('pgq_jobs', 'data'), ('pgq_jobs', 'run_after'), ('pgq_jobs', 'retry_waits'),"
                 "  ('pgq_jobs', 'ran_at'), ('pgq_jobs', 'error'), ('pgq_jobs', 'attempt'), ('pgq_jobs', 'lease'),"
                 "  ('pgq_jobs', 'suspect'), ('pgq_workers', 'last_seen_at'), ('pgq_workers', 'pooled')) AS wanted "
                 "(relation, name)"
                 " WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(wanted.relation)"
                 "  AND attname = wanted.name AND NOT attisdropped)"
                 " LIMIT 1"},

    /*
     * The doorbell; its other end is the function pgq_ring in create_table.sql, and the two must agree on the keys:
     * class is the table's oid, object the bucket of the queue's name ("enqueueing"), or that and 256 ("asleep"). A
     * probe is one expression: between two statements a cancel could leave the lock behind, and that queue's workers
     * asleep.
     */
    [STATEMENT_BELL_LISTEN] = {.name = "bell_listen", .text = "LISTEN pgq_bell"},
    [STATEMENT_BELL_KEYS] =
        {.name = "bell_keys",
         .text = "SELECT 'pgq_jobs'::regclass::oid::int8, EXISTS (SELECT FROM pg_trigger"
                 "  WHERE tgrelid = 'pgq_jobs'::regclass AND tgname = 'pgq_ring' AND tgenabled IN ('O', 'A')), bucket"
                 " FROM (SELECT DISTINCT hashtext(name) & 255 AS bucket FROM unnest($1::text[]) AS name) AS queue"
                 " ORDER BY bucket",
         .count = 1,
         .types = {OID_TEXT_ARRAY}},
    [STATEMENT_BELL_RAISE] =
        {.name = "bell_raise",
         .text = "SELECT bucket, pg_try_advisory_lock_shared('pgq_jobs'::regclass::oid::int4, 256 + bucket)"
                 " FROM unnest($1::int4[]) AS bucket",
         .count = 1,
         .types = {OID_INT4_ARRAY}},
    [STATEMENT_BELL_PROBE] =
        {.name = "bell_probe",
         .text = "SELECT coalesce(bool_and(CASE WHEN pg_try_advisory_lock('pgq_jobs'::regclass::oid::int4, bucket)"
                 "  THEN pg_advisory_unlock('pgq_jobs'::regclass::oid::int4, bucket) ELSE false END), true)"
                 " FROM unnest($1::int4[]) AS bucket",
         .count = 1,
         .types = {OID_INT4_ARRAY}},
    [STATEMENT_BELL_LOWER] = {.name = "bell_lower",
                              .text = "SELECT pg_advisory_unlock_shared('pgq_jobs'::regclass::oid::int4, 256 + bucket)"
                                      " FROM unnest($1::int4[]) AS bucket",
                              .count = 1,
                              .types = {OID_INT4_ARRAY}},

    /* Who cancels a job that is leased says so: see pgq_cancel in create_table.sql. */
    [STATEMENT_CANCEL_LISTEN] = {.name = "cancel_listen", .text = "LISTEN pgq_cancel"},

    /*
     * This worker's row. While the worker lives, its control session has an advisory lock on the row's number: the lock
     * is there before the row can be seen. Not where the session is shared ($5): it would stay with a stranger.
     */
    [STATEMENT_WORKER_ADD] =
        {.name = "worker_add",
         .text = "INSERT INTO pgq_workers (host, pid, version, queues, pooled) VALUES ($1, $2, $3, $4, $5)"
                 " RETURNING id, CASE WHEN NOT pooled THEN"
                 "  pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & 2147483647)::int4) END",
         .count = 5,
         .types = {OID_TEXT, OID_INT4, OID_TEXT, OID_TEXT_ARRAY, OID_BOOL}},
    [STATEMENT_WORKER_LOCK] =
        {.name = "worker_lock",
         .text = "SELECT pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, ($1::int8 & 2147483647)::int4)",
         .count = 1,
         .types = {OID_INT8}},

    /*
     * Away with the rows of workers that vanished without a word, except $1, and those heard of in the last $2 ms (one
     * that has lost its session comes back in less): their lock is gone; or they have not been heard of for an hour,
     * or, having no lock, for a minute. The probe is one expression: between two statements a cancel could leave the
     * lock behind.
     */
    [STATEMENT_WORKERS_VANISHED] =
        {.name = "workers_vanished",
         .text =
             "DELETE FROM pgq_workers WHERE id <> $1 AND last_seen_at < now() - $2::int8 * interval '1 ms'"
             " AND (last_seen_at < now() - CASE WHEN pooled THEN interval '1 min' ELSE interval '1 hour' END"
             " OR CASE WHEN pooled THEN false WHEN pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & "
             "2147483647)::int4)"
             "  THEN pg_advisory_unlock('pgq_workers'::regclass::oid::int4, (id & 2147483647)::int4) ELSE false END)"
             " RETURNING host, pid",
         .count = 2,
         .types = {OID_INT8, OID_INT8}},
    [STATEMENT_WORKER_SEEN] = {.name = "worker_seen",
                               .text = "UPDATE pgq_workers SET last_seen_at = now() WHERE id = $1",
                               .count = 1,
                               .types = {OID_INT8}},
    [STATEMENT_WORKER_REMOVE] = {.name = "worker_remove",
                                 .text = "DELETE FROM pgq_workers WHERE id = $1",
                                 .count = 1,
                                 .types = {OID_INT8}},
};

const char *statement_text(enum statement statement) {
  return rows[statement].text;
}

const char *statement_name(enum statement statement) {
  return rows[statement].name;
}

bool statement_is_prepared(enum statement statement) {
  return rows[statement].prepared;
}

int statement_prepare(PGconn *pg, enum statement statement) {
  const struct statement_row *row = &rows[statement];
  return PQsendPrepare(pg, row->name, row->text, row->count, row->types) ? 0 : -1;
}

int statement_send(PGconn *pg, enum statement statement, const struct parameters *parameters, bool unprepared) {
  const char *values[8] = {0};
  int lengths[8] = {0}, formats[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  int count = parameters ? parameters->count : 0;
  for (int i = 0; i < count; i++) {
    values[i] = parameters->lengths[i] < 0 ? NULL : (const char *)parameters->bytes.bytes + parameters->offsets[i];
    lengths[i] = parameters->lengths[i];
  }
  const struct statement_row *row = &rows[statement];
  if (row->prepared && !unprepared)
    return PQsendQueryPrepared(pg, row->name, count, values, lengths, formats, 1) ? 0 : -1;
  return PQsendQueryParams(pg, row->text, count, row->types, values, lengths, formats, 1) ? 0 : -1;
}

uint32_t claim_position(const PGresult *result, int row) {
  return PQgetisnull(result, row, CLAIM_QUEUE) ? 0 : (uint32_t)result_i64(result, row, CLAIM_QUEUE) - 1;
}
