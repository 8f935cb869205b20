-- Marks jobs as completed instead of deleting them, and writes their attempts to pgq_attempts, with --keep-attempts all;
-- see preserve_leased.sql and remove_recorded.sql. Returns the ids of the jobs that it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the microseconds since its handler began
-- $4 int8: id of this worker's row, or 0
-- $5 text: this worker, as host:pid
-- $6 text: version of the script, or null
WITH written AS (
  UPDATE pgq_jobs AS job
  SET ran_at = statement_timestamp(), error = NULL, lease = NULL, started_at = NULL, deaths = 0,
    attempt = least(job.attempt, 2147483646) + CASE WHEN ended.lease IS NULL THEN 1 ELSE 0 END
  FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS ended (id, lease, us)
  WHERE job.id = ended.id AND job.lease IS NOT DISTINCT FROM ended.lease
  RETURNING job.id, job.queue_name::text, job.attempt, ended.us),
recorded AS (
  INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome)
  SELECT id, queue_name, attempt, statement_timestamp() - us::float8 * interval '1 microsecond', statement_timestamp(),
    NULLIF($4::int8, 0::int8), $5::text, $6::text, 'completed'::text
  FROM written)
SELECT id FROM written
