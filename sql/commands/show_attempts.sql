-- Returns the last attempts of a job, the first of them first, by the index pgq_attempts_job. The columns are those of
-- enum attempt_column in show.c.
--
-- $1 int8: id of the job
-- $2 int8: the greatest number of attempts
SELECT queue_name, attempt, outcome, started_at, ended_at, worker_id, worker, version, error, traceback,
  pg_catalog.floor(extract(epoch FROM ended_at - started_at)::float8 * 1000::float8)::int8
FROM (
  SELECT * FROM pgq_attempts WHERE job_id = $1::int8 ORDER BY id DESC LIMIT $2::int8) AS attempts
ORDER BY id
