-- Returns the queues, at most $1 of them: first those with trouble, then the others, each by name. A queue is known from
-- its jobs, from the workers that register it, or because it is paused. Names are found by loose index scans, which read
-- one row of each queue, and at most 10,000 names. Counts end at 10,000 jobs. Together they read about 700,000 entries
-- of pgq_jobs_fetch, and 36,000 rows by pgq_jobs_ended, which does not have all that it takes to count; for more than
-- 100 queues a third of that. About half is divided among the queues; of the rest, a queue with more jobs gets a quarter
-- of what is left, or half for rows. The figures of handlers are those of the last five minutes. An executor is busy if it has computed for
-- a second, or has as many jobs as it may; a queue whose own jobs run and end is not starved. The columns are those of
-- enum column in queues.c.
--
-- $1 int8: the greatest number of queues
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
  SELECT queues, CASE WHEN pg_catalog.jsonb_typeof(status -> 'executors'::text) = 'array'::text
      THEN status -> 'executors'::text ELSE '[]'::jsonb END AS executors,
    CASE WHEN pg_catalog.jsonb_typeof(status -> 'queues'::text) = 'object'::text
      THEN status -> 'queues'::text ELSE '{}'::jsonb END AS queues_status,
    status ->> 'script_error'::text AS script_error,
    coalesce(status ->> 'stage'::text, ''::text) IN ('quiet'::text, 'stopping'::text) AS leaves,
    coalesce((status ->> 'at'::text)::timestamptz, now()) AS reported_at,
    coalesce((status -> 'options'::text ->> 'concurrency'::text)::int8, 10::int8) AS concurrency
  FROM pgq_workers WHERE last_seen_at > now() - interval '1 minute'),
registered AS (
  SELECT queue.name, pg_catalog.count(*) FILTER (WHERE claims) AS workers,
    pg_catalog.max(script_error) FILTER (WHERE NOT leaves) AS script_error,
    pg_catalog.sum(measured.executors) FILTER (WHERE claims)::int8 AS executors,
    pg_catalog.sum(measured.busy) FILTER (WHERE claims)::int8 AS busy,
    coalesce(pg_catalog.bool_or(queue.name = ANY (busy_with)), false) AS runs
  FROM worker
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS executors, NOT leaves AND (script_error IS NULL
        OR coalesce(pg_catalog.bool_or(version IS NOT NULL), false)) AS claims,
      pg_catalog.count(*) FILTER (WHERE in_flight >= concurrency
        OR busy AND reported_at - least(busy_since, job_since) >= interval '1 second') AS busy,
      pg_catalog.array_agg(executor.queue) AS busy_with
    FROM pg_catalog.jsonb_to_recordset(worker.executors)
      AS executor (version text, busy bool, busy_since timestamptz, job_since timestamptz, in_flight int8, queue text)) AS measured
  CROSS JOIN LATERAL pg_catalog.unnest(queues) AS queue (name)
  GROUP BY queue.name),
backing_off AS (
  SELECT queue.name, pg_catalog.max((queue.status ->> 'backs_off_until'::text)::timestamptz) AS until,
    pg_catalog.max(queue.status ->> 'backoff_error'::text) AS error
  FROM worker CROSS JOIN LATERAL pg_catalog.jsonb_each(queues_status) AS queue (name, status)
  WHERE (queue.status ->> 'backs_off_until'::text)::timestamptz > now()
  GROUP BY queue.name),
paused AS (
  SELECT queue_name AS name, paused_until, paused_by, pause_reason FROM pgq_queues WHERE paused_until > now()),
names AS (
  SELECT name FROM waiting WHERE name IS NOT NULL
  UNION SELECT name FROM ended WHERE name IS NOT NULL
  UNION SELECT name FROM registered
  UNION SELECT name FROM paused),
first_due AS (
  SELECT names.name, waiting.name IS NOT NULL AS has_jobs, oldest.run_after
  FROM names
  LEFT JOIN waiting ON waiting.name = names.name
  LEFT JOIN LATERAL (
    SELECT run_after FROM pgq_jobs
    WHERE queue_name = names.name AND ran_at IS NULL AND run_after <= now()
    ORDER BY run_after, id LIMIT 1) AS oldest ON true),
judged AS (
  SELECT first_due.name, run_after, workers, executors, paused_until, paused_by, pause_reason, until, backing_off.error,
    script_error, CASE WHEN paused.name IS NOT NULL THEN 'paused'::text
      WHEN workers IS NULL AND has_jobs THEN 'no_worker'::text
      WHEN workers = 0::int8 AND script_error IS NOT NULL THEN 'workers_cannot_run'::text
      WHEN workers = 0::int8 THEN 'workers_leave'::text
      WHEN backing_off.name IS NOT NULL THEN 'backs_off'::text
      WHEN busy = executors AND executors > 0::int8 AND run_after < now() - interval '2 seconds' AND NOT (runs AND EXISTS (
        SELECT FROM pgq_stats WHERE queue_name = first_due.name AND minute > now() - interval '2 minutes')) THEN 'starved'::text
      WHEN workers IS NOT NULL THEN 'served'::text END AS state
  FROM first_due
  LEFT JOIN registered ON registered.name = first_due.name
  LEFT JOIN backing_off ON backing_off.name = first_due.name
  LEFT JOIN paused ON paused.name = first_due.name),
shown AS MATERIALIZED (
  SELECT * FROM judged ORDER BY coalesce(state = 'served'::text, true), name LIMIT $1::int8),
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
  shown.state, shown.workers, shown.paused_until, shown.paused_by, shown.pause_reason, shown.until, shown.error,
  shown.script_error, shown.executors, busiest.job, busiest.queue, busiest.since
FROM shown
CROSS JOIN LATERAL (
  SELECT pg_catalog.date_trunc('minute'::text, now()) - interval '5 minutes' AS since,
    extract(epoch FROM now() - pg_catalog.date_trunc('minute'::text, now()) + interval '5 minutes')::numeric
      / 60::numeric AS minutes) AS recent
JOIN counted ON counted.name = shown.name
LEFT JOIN LATERAL (
  SELECT executor ->> 'job'::text AS job, executor ->> 'queue'::text AS queue,
    (executor ->> 'job_since'::text)::timestamptz AS since
  FROM worker CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(executors) AS one (executor)
  WHERE shown.state = 'starved'::text AND shown.name = ANY (worker.queues)
  ORDER BY since LIMIT 1) AS busiest ON true
ORDER BY coalesce(shown.state = 'served'::text, true), shown.name
