-- Returns jobs in the order in which they were enqueued. No column is null, because the instance of pgq that reads the
-- rows has another pgq.null than the script under test; has_error and ended say which columns have no value.
--
-- $1 int8: the jobs have ids above this one
-- $2 text: name of the queue; null for all queues
SELECT id, queue_name, data, attempt,
  coalesce(error, '') AS error, error IS NOT NULL AS has_error,
  pg_catalog.array_to_string(retry_waits, E'\n') AS waits, lease IS NOT NULL AS leased, ran_at IS NOT NULL AS ended,
  extract(epoch FROM created_at)::float8 AS created_at, extract(epoch FROM run_after)::float8 AS run_after,
  extract(epoch FROM coalesce(ran_at, run_after))::float8 AS ran_at
FROM pgq_jobs
WHERE id > $1 AND ($2::text IS NULL OR queue_name = $2)
ORDER BY id
