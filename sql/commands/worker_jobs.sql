-- Returns the jobs that the executors of a worker run, those that began first before the others, at most ten.
--
-- $1 int8: id of the worker
SELECT executor.pid, executor.job, executor.queue, executor.job_since, executor.stuck,
  executor.version <> status ->> 'script_version'::text
FROM pgq_workers
CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(
  CASE WHEN pg_catalog.jsonb_typeof(status -> 'executors'::text) = 'array'::text THEN status -> 'executors'::text
    ELSE '[]'::jsonb END) AS executor (pid int4, job int8, queue text, job_since timestamptz, stuck text, version text)
WHERE id = $1::int8 AND executor.job IS NOT NULL
ORDER BY executor.job_since, executor.job LIMIT 10
