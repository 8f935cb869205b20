-- Locks and returns the job that is due first, with the columns of testing_jobs.sql.
--
-- $1 text[]: names of the queues
SELECT id, queue_name, data, attempt,
  coalesce(error, '') AS error, error IS NOT NULL AS has_error,
  pg_catalog.array_to_string(retry_waits, E'\n') AS waits, lease IS NOT NULL AS leased, ran_at IS NOT NULL AS ended,
  extract(epoch FROM created_at)::float8 AS created_at, extract(epoch FROM run_after)::float8 AS run_after,
  extract(epoch FROM coalesce(ran_at, run_after))::float8 AS ran_at
FROM pgq_jobs
WHERE queue_name = ANY ($1::text[]) AND ran_at IS NULL AND run_after <= now()
ORDER BY run_after, id
LIMIT 1
FOR UPDATE SKIP LOCKED
