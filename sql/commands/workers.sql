-- Returns the workers, by host and process number. The columns are those of enum column in workers.c. What a worker says
-- about itself is in its status.
--
-- $1 int8: the greatest number of workers
-- $2 int8: how many of the first workers are left out
-- $3 int8: id of the only worker, or null for all
SELECT id, host, pid, version, started_at, last_seen_at, last_seen_at < now() - interval '30 seconds', pooled, missing_since,
  request, pg_catalog.to_json(queues), pg_catalog.array_to_string(queues[1:100], ', '), pg_catalog.cardinality(queues) > 100,
  status ->> 'stage'::text, status ->> 'script'::text, status ->> 'script_version'::text, status ->> 'script_error'::text,
  status ->> 'error'::text, status -> 'options'::text, status ->> 'memory_bytes'::text, status ->> 'leases'::text,
  status -> 'executors'::text, status -> 'queues'::text, executor.count, executor.busy, executor.in_flight
FROM pgq_workers
CROSS JOIN LATERAL (
  SELECT pg_catalog.count(*) AS count, pg_catalog.sum(CASE WHEN busy THEN 1 ELSE 0 END) AS busy,
    pg_catalog.sum(in_flight) AS in_flight
  FROM pg_catalog.jsonb_to_recordset(
    CASE WHEN pg_catalog.jsonb_typeof(status -> 'executors'::text) = 'array'::text THEN status -> 'executors'::text
      ELSE '[]'::jsonb END) AS executor (busy bool, in_flight int8)) AS executor
WHERE $3::int8 IS NULL OR id = $3::int8
ORDER BY host, pid, id LIMIT $1::int8 OFFSET $2::int8
