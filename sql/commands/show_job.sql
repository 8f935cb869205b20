-- Returns what is known about a job, except for its data, or no row. The columns are those of enum column in show.c. The
-- upper half of the lease's token is the id of the worker, of which 30 bits fit.
--
-- $1 int8: id of the job
SELECT job.id, job.queue_name,
  CASE WHEN job.cancelled AND job.ran_at IS NOT NULL THEN 'cancelled'::text
    WHEN job.ran_at IS NOT NULL AND job.error IS NOT NULL THEN 'failed'::text
    WHEN job.ran_at IS NOT NULL THEN 'completed'::text
    WHEN job.lease IS NOT NULL AND job.started_at IS NOT NULL AND job.run_after > now() THEN 'running'::text
    WHEN job.run_after <= now() THEN 'due'::text
    ELSE 'later'::text END,
  job.created_at, job.run_after, job.started_at, job.ran_at, job.attempt, pg_catalog.cardinality(job.retry_waits),
  CASE WHEN pg_catalog.pg_column_size(job.retry_waits) <= 40000
    THEN pg_catalog.to_json(job.retry_waits) END,
  job.deaths, coalesce(worker.id, job.lease >> 32),
  CASE WHEN worker.id IS NOT NULL THEN pg_catalog.concat(worker.host, ':', worker.pid) END,
  job.error, job.meta, octet_length(job.data)
FROM pgq_jobs AS job
LEFT JOIN pgq_workers AS worker ON worker.id & 1073741823::int8 = job.lease >> 32
WHERE job.id = $1::int8
ORDER BY worker.last_seen_at DESC NULLS LAST LIMIT 1
