-- Snoozes jobs, and writes their attempts to pgq_attempts, with --keep-attempts all; see snooze.sql and
-- remove_recorded.sql. Returns the ids of the jobs that it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the milliseconds until it runs again
-- $4 int8[]: for each job, the microseconds since its handler began
-- $5 int8: id of this worker's row, or 0
-- $6 text: this worker, as host:pid
-- $7 text: version of the script, or null
WITH written AS (
  UPDATE pgq_jobs AS job
  SET run_after = statement_timestamp() + ended.ms::float8 * interval '1 millisecond', lease = NULL, started_at = NULL,
    deaths = 0, attempt = job.attempt - CASE WHEN ended.lease IS NULL THEN 0 ELSE 1 END
  FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[]) AS ended (id, lease, ms, us)
  WHERE job.id = ended.id AND job.lease IS NOT DISTINCT FROM ended.lease
  RETURNING job.id, job.queue_name::text, job.attempt, ended.us),
recorded AS (
  INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome)
  SELECT id, queue_name, least(attempt, 2147483646) + 1, statement_timestamp() - us::float8 * interval '1 microsecond',
    statement_timestamp(), NULLIF($5::int8, 0::int8), $6::text, $7::text, 'snoozed'::text
  FROM written)
SELECT id FROM written
