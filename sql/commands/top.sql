-- Returns what stands above the lists of top, in one row: the database and its time; how many workers there are, how many
-- of them have sent no heartbeat for 30 seconds, how many executors they have, how many of these compute, and how many jobs
-- they run; completed and failed jobs per minute, and since when these were counted: since the begin of the last minute that
-- is over. The columns are those of enum column in top.c.
SELECT pg_catalog.current_database()::text, now(), worker.total, worker.silent, worker.executors, worker.busy,
  worker.in_flight, done.completed, done.failed, recent.since
FROM (
  SELECT pg_catalog.date_trunc('minute'::text, now()) - interval '1 minute' AS since,
    extract(epoch FROM now() - pg_catalog.date_trunc('minute'::text, now()) + interval '1 minute')::numeric
      / 60::numeric AS minutes) AS recent
CROSS JOIN (
  SELECT pg_catalog.count(*) AS total, pg_catalog.count(*) FILTER (WHERE last_seen_at < now() - interval '30 seconds') AS silent,
    coalesce(pg_catalog.sum(executor.total)::int8, 0::int8) AS executors,
    coalesce(pg_catalog.sum(executor.busy)::int8, 0::int8) AS busy,
    coalesce(pg_catalog.sum(executor.in_flight)::int8, 0::int8) AS in_flight
  FROM pgq_workers
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS total, pg_catalog.count(*) FILTER (WHERE busy) AS busy,
      pg_catalog.sum(in_flight)::int8 AS in_flight
    FROM pg_catalog.jsonb_to_recordset(
      CASE WHEN pg_catalog.jsonb_typeof(status -> 'executors'::text) = 'array'::text THEN status -> 'executors'::text
        ELSE '[]'::jsonb END) AS one (busy bool, in_flight int8)) AS executor) AS worker
CROSS JOIN LATERAL (
  SELECT coalesce(pg_catalog.round(pg_catalog.sum(completed) / recent.minutes), 0::numeric) AS completed,
    coalesce(pg_catalog.round(pg_catalog.sum(failed) / recent.minutes, 1), 0::numeric) AS failed
  FROM pgq_stats WHERE minute >= recent.since) AS done
