-- Checks the queues: due jobs that no worker serves, jobs that have been due for an hour, and jobs for the far future. The
-- names of queues are found by a loose index scan, at most 1,000 of them. The columns are those of doctor_server.sql. A
-- repair that names the queue can be pasted into a shell; other names than plain ones are left to a list of all.
WITH RECURSIVE waiting (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NULL AND queue_name > waiting.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM waiting WHERE name IS NOT NULL AND number < 1000),
served AS (
  SELECT DISTINCT queue.name
  FROM pgq_workers AS worker CROSS JOIN LATERAL pg_catalog.unnest(worker.queues) AS queue (name)
  WHERE worker.last_seen_at > now() - interval '1 min' AND (worker.pooled OR EXISTS (
    SELECT FROM pg_catalog.pg_locks AS lock
    WHERE lock.locktype = 'advisory'::text AND lock.granted AND lock.classid = pg_catalog.to_regclass('pgq_workers')::oid
      AND lock.objid::int8 = worker.id & 2147483647::int8))),
queue AS MATERIALIZED (
  SELECT waiting.name, pg_catalog.quote_literal(pg_catalog.left(waiting.name, 100)) AS quoted, oldest.run_after,
    far.run_after AS far,
    served.name IS NOT NULL AS is_served, paused.queue_name IS NOT NULL AS is_paused
  FROM waiting
  LEFT JOIN served ON served.name = waiting.name
  LEFT JOIN pgq_queues AS paused ON paused.queue_name = waiting.name AND paused.paused_until > now()
  LEFT JOIN LATERAL (
    SELECT run_after FROM pgq_jobs WHERE queue_name = waiting.name AND ran_at IS NULL AND run_after <= now()
    ORDER BY run_after, id LIMIT 1) AS oldest ON true
  LEFT JOIN LATERAL (
    SELECT run_after FROM pgq_jobs
    WHERE queue_name = waiting.name AND ran_at IS NULL AND run_after > now() + interval '1 year'
    ORDER BY run_after DESC, id DESC LIMIT 1) AS far ON true
  WHERE waiting.name IS NOT NULL),
problem AS (
  SELECT 'queues'::text AS check_name, 'bad'::text AS level, quoted, name,
    pg_catalog.concat('no worker serves ', quoted, ', which has due jobs') AS finding, run_after
  FROM queue WHERE NOT is_served AND NOT is_paused AND run_after IS NOT NULL
  UNION ALL
  SELECT 'due jobs', 'bad', quoted, name, pg_catalog.concat('the oldest due job of ', quoted, ' has been due for ',
    pg_catalog.date_trunc('second'::text, now() - run_after)), run_after
  FROM queue WHERE NOT is_paused AND run_after < now() - interval '1 hour'
  UNION ALL
  SELECT 'far future', 'warn', quoted, name, pg_catalog.concat('a job of ', quoted, ' is to run at ', far), far
  FROM queue WHERE far IS NOT NULL),
numbered AS (
  SELECT problem.*, pg_catalog.row_number() OVER (PARTITION BY check_name ORDER BY run_after, name) AS number,
    pg_catalog.count(*) OVER (PARTITION BY check_name) AS count
  FROM problem)
SELECT check_name, level, pg_catalog.concat(finding, CASE WHEN number = 5::int8 AND count > 5::int8
    THEN pg_catalog.concat(', and ', count - 5::int8, ' more queues like this') END),
  CASE WHEN name ~ '^[[:alnum:]_.:/@ -]{1,100}$'::text
    THEN pg_catalog.concat(CASE check_name WHEN 'far future'::text THEN 'pgq-lua jobs ' ELSE 'pgq-lua why ' END,
      CASE WHEN name ~ '^(-|[0-9]+$)'::text THEN pg_catalog.concat('-', '-queue ') END, quoted)
    WHEN check_name = 'far future'::text THEN 'pgq-lua jobs'
    ELSE 'pgq-lua queues' END
FROM numbered WHERE number <= 5::int8
UNION ALL
SELECT 'queues', 'ok', pg_catalog.concat(pg_catalog.count(*),
  ' queues have jobs that have not ended, and those with due jobs are served or paused'), NULL
FROM queue HAVING NOT EXISTS (SELECT FROM problem WHERE check_name = 'queues'::text)
UNION ALL
SELECT 'due jobs', 'ok', pg_catalog.concat('no job has been due for an hour, the oldest for ',
    coalesce(pg_catalog.date_trunc('second'::text, now() - pg_catalog.min(run_after)), interval '0')), NULL
FROM queue HAVING NOT EXISTS (SELECT FROM problem WHERE check_name = 'due jobs'::text)
UNION ALL
SELECT 'far future', 'ok', 'no job is to run in more than a year', NULL
WHERE NOT EXISTS (SELECT FROM problem WHERE check_name = 'far future'::text)
