-- Returns the queues, at most $1 of them: first those with trouble, then the others, each by name. A queue is known from
-- its jobs, from the workers that register it, or because it is paused. Names are found by loose index scans, which read
-- one row of each queue, and at most 10,000 names. Counts end at 10,000 jobs. Together they read about 700,000 entries
-- of pgq_jobs_fetch, and 36,000 rows by pgq_jobs_ended, which does not have all that it takes to count; for more than
-- 100 queues a third of that. About half is divided among the queues; of the rest, a queue with more jobs gets a quarter
-- of what is left, or half for rows. The figures of handlers are those of the last five minutes. What becomes of a queue
-- that workers register is what pgq_why_workers says, so that `pgq-lua why` gives the same answer. The columns are those
-- of enum column in queues.c.
--
-- $1 int8: the greatest number of queues
-- $2 text: pattern of the name, for ILIKE, or null for all
-- $3 int8: how many of the first queues are left out
WITH RECURSIVE waiting (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NULL AND queue_name > waiting.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM waiting WHERE name IS NOT NULL AND number < 10000),
ended (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NOT NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NOT NULL AND queue_name > ended.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM ended WHERE name IS NOT NULL AND number < 10000),
worker AS MATERIALIZED (
  SELECT queues, CASE WHEN pg_catalog.jsonb_typeof(status -> 'queues'::text) = 'object'::text
      THEN status -> 'queues'::text ELSE '{}'::jsonb END AS queues_status,
    status ->> 'script_error'::text AS script_error,
    status ->> 'script_error'::text IS NOT NULL OR last_seen_at < now() - interval '30 seconds' OR missing_since IS NOT NULL
      OR coalesce(status ->> 'stage'::text, ''::text) IN ('quiet'::text, 'stopping'::text) AS is_troubled,
    executor.all_busy
  FROM pgq_workers CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.bool_and(coalesce(busy, false) OR in_flight > 0::int8), false) AS all_busy
    FROM pg_catalog.jsonb_to_recordset(CASE WHEN pg_catalog.jsonb_typeof(status -> 'executors'::text) = 'array'::text
      THEN status -> 'executors'::text ELSE '[]'::jsonb END) AS executor (busy bool, in_flight int8)) AS executor),
registered AS (
  SELECT queue.name, pg_catalog.bool_or(is_troubled
      OR (queues_status -> queue.name ->> 'backs_off_until'::text)::timestamptz > now()) AS is_troubled,
    pg_catalog.bool_and(all_busy) AS all_busy
  FROM worker CROSS JOIN LATERAL pg_catalog.unnest(queues) AS queue (name)
  GROUP BY queue.name),
paused AS (
  SELECT queue_name AS name, paused_until, paused_by, pause_reason FROM pgq_queues WHERE paused_until > now()),
names AS (
  SELECT name FROM (
    SELECT name FROM waiting WHERE name IS NOT NULL
    UNION SELECT name FROM ended WHERE name IS NOT NULL
    UNION SELECT name FROM registered
    UNION SELECT name FROM paused) AS every
  WHERE $2::text IS NULL OR name ~~* $2::text),
first_due AS (
  SELECT names.name, waiting.name IS NOT NULL AS has_jobs, oldest.run_after
  FROM names
  LEFT JOIN waiting ON waiting.name = names.name
  LEFT JOIN LATERAL (
    SELECT run_after FROM pgq_jobs
    WHERE queue_name = names.name AND ran_at IS NULL AND run_after <= now()
    ORDER BY run_after, id LIMIT 1) AS oldest ON true),
chosen AS MATERIALIZED (
  SELECT first_due.name, has_jobs, run_after, paused_until, paused_by, pause_reason, registered.name IS NOT NULL AS is_registered
  FROM first_due
  LEFT JOIN registered ON registered.name = first_due.name
  LEFT JOIN paused ON paused.name = first_due.name
  ORDER BY paused.name IS NULL AND NOT (registered.name IS NULL AND has_jobs) AND NOT coalesce(registered.is_troubled, false)
    AND NOT (coalesce(registered.all_busy, false) AND run_after IS NOT NULL), first_due.name
  LIMIT $1::int8 OFFSET $3::int8),
judged AS MATERIALIZED (
  SELECT chosen.*, CASE WHEN why.code = 'starved'::text AND run_after IS NULL THEN NULL ELSE why.code END AS code, why.sentence,
    why.until, why.who
  FROM chosen
  LEFT JOIN LATERAL (
    SELECT code, sentence, until, who FROM pgq_why_workers(chosen.name)
    WHERE chosen.is_registered OR chosen.paused_until IS NOT NULL) AS why ON true),
shown AS MATERIALIZED (
  SELECT name, run_after, paused_until, paused_by, pause_reason, sentence,
    CASE WHEN code IS NOT NULL THEN code
      WHEN is_registered THEN 'served'::text
      WHEN has_jobs THEN 'no_worker'::text END AS state,
    CASE WHEN code = 'backs_off'::text THEN until END AS until,
    CASE WHEN is_registered THEN coalesce((
      SELECT pg_catalog.count(DISTINCT one.value ->> 'worker_id'::text)
      FROM pg_catalog.jsonb_array_elements(judged.who) AS one (value)
      WHERE code IS NULL OR code IN ('backs_off'::text, 'starved'::text)), 0::int8) END AS workers,
    CASE WHEN code = 'starved'::text THEN pg_catalog.jsonb_array_length(judged.who)::int8 END AS executors,
    CASE WHEN code = 'starved'::text THEN judged.who END AS busy
  FROM judged),
leased AS (
  SELECT run.name, pg_catalog.count(*) AS jobs
  FROM (SELECT queue_name AS name, started_at, run_after FROM pgq_jobs WHERE lease IS NOT NULL LIMIT 100000) AS run
  WHERE started_at IS NOT NULL AND run_after > now()
  GROUP BY run.name),
listed AS MATERIALIZED (
  SELECT pg_catalog.array_agg(shown.name ORDER BY coalesce(shown.state = 'served'::text, true), shown.name) AS names,
    pg_catalog.array_agg(coalesce(leased.jobs, 0::int8)
      ORDER BY coalesce(shown.state = 'served'::text, true), shown.name) AS running,
    pg_catalog.count(*) AS queues, CASE WHEN pg_catalog.count(*) <= 100::int8 THEN 3::int8 ELSE 1::int8 END AS thirds
  FROM shown LEFT JOIN leased ON leased.name = shown.name),
counted (number, name, running, due, later, failed, waiting_left, failed_left) AS (
  SELECT 0::int8, NULL::text, 0::int8, ''::text, ''::text, ''::text, 120000::int8 * thirds, 7000::int8 * thirds FROM listed
  UNION ALL
  SELECT counted.number + 1::int8, queue.name, queue.running,
    CASE WHEN due.jobs > share.waiting THEN share.waiting::text || '+' ELSE due.jobs::text END,
    CASE WHEN later.jobs > share.waiting THEN share.waiting::text || '+' ELSE later.jobs::text END,
    CASE WHEN failed.jobs > share.failed THEN share.failed::text || '+' ELSE failed.jobs::text END,
    counted.waiting_left - greatest(due.jobs - share.waiting_fair, 0::int8) - greatest(later.jobs - share.waiting_fair, 0::int8),
    counted.failed_left - greatest(failed.jobs - share.failed_fair, 0::int8)
  FROM counted
  CROSS JOIN LATERAL (
    SELECT listed.names[counted.number + 1::int8] AS name, listed.running[counted.number + 1::int8] AS running, queues, thirds
    FROM listed WHERE counted.number < listed.queues) AS queue
  CROSS JOIN LATERAL (
    SELECT waiting_fair, least(waiting_fair + greatest(counted.waiting_left, 0::int8) / 4::int8, 10000::int8) AS waiting,
      failed_fair, least(failed_fair + greatest(counted.failed_left, 0::int8) / 2::int8, 10000::int8) AS failed
    FROM (SELECT 60000::int8 * thirds / queues + 1::int8 AS waiting_fair, 5000::int8 * thirds / queues + 1::int8 AS failed_fair) AS fair
  ) AS share
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS jobs FROM (
      SELECT FROM pgq_jobs WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()
      ORDER BY run_after, id LIMIT share.waiting + 1::int8) AS job) AS due
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) - queue.running AS jobs FROM (
      SELECT FROM pgq_jobs WHERE queue_name = queue.name AND ran_at IS NULL AND run_after > now()
      ORDER BY run_after, id LIMIT share.waiting + 1::int8 + queue.running) AS job) AS later
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS jobs FROM (
      SELECT FROM pgq_jobs WHERE queue_name = queue.name AND ran_at IS NOT NULL
        AND CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END = 'f'::"char"
      ORDER BY ran_at DESC LIMIT share.failed + 1::int8) AS job) AS failed)
SELECT shown.name, counted.due, shown.run_after, counted.running, counted.later, counted.failed,
  (SELECT pg_catalog.round(pg_catalog.sum(completed) / recent.minutes, 1) FROM pgq_stats
    WHERE queue_name = shown.name AND minute >= recent.since),
  (SELECT pg_catalog.array_agg(added.jobs ORDER BY added.position) FROM (
    SELECT bucket.position, pg_catalog.sum(bucket.jobs)::int8 AS jobs
    FROM pgq_stats CROSS JOIN LATERAL pg_catalog.unnest(run_buckets) WITH ORDINALITY AS bucket (jobs, position)
    WHERE queue_name = shown.name AND minute >= recent.since
    GROUP BY bucket.position) AS added),
  shown.state, shown.workers, shown.paused_until, shown.paused_by, shown.pause_reason, shown.until, error.backoff,
  error.script, shown.executors, busiest.job, busiest.queue, busiest.since, shown.sentence
FROM shown
CROSS JOIN LATERAL (
  SELECT pg_catalog.date_trunc('minute'::text, now()) - interval '5 minutes' AS since,
    extract(epoch FROM now() - pg_catalog.date_trunc('minute'::text, now()) + interval '5 minutes')::numeric
      / 60::numeric AS minutes) AS recent
JOIN counted ON counted.name = shown.name
LEFT JOIN LATERAL (
  SELECT executor ->> 'job'::text AS job, executor ->> 'queue'::text AS queue,
    (executor ->> 'since'::text)::timestamptz AS since
  FROM pg_catalog.jsonb_array_elements(shown.busy) AS one (executor)
  ORDER BY since LIMIT 1) AS busiest ON true
LEFT JOIN LATERAL (
  SELECT pg_catalog.min(queues_status -> shown.name ->> 'backoff_error'::text) FILTER (WHERE shown.state = 'backs_off'::text
      AND (queues_status -> shown.name ->> 'backs_off_until'::text)::timestamptz = shown.until) AS backoff,
    pg_catalog.min(worker.script_error) FILTER (WHERE shown.state = 'workers_cannot_run'::text) AS script
  FROM worker
  WHERE shown.state IN ('backs_off'::text, 'workers_cannot_run'::text) AND shown.name = ANY (worker.queues)) AS error ON true
ORDER BY coalesce(shown.state = 'served'::text, true), shown.name
