-- Deletes jobs that have ended, and writes their attempts to pgq_attempts: failed jobs that are discarded, and completed
-- ones with --keep-attempts all. Returns the ids of the jobs that it deleted. As in fail.sql, an attempt gets a row
-- exactly if the job was deleted.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the microseconds since its handler began; null when that is not known
-- $4 text[]: for each job, the message of its error; null when it was completed
-- $5 text[]: for each job, the traceback of its error, or null
-- $6 int8: id of this worker's row, or 0
-- $7 text: this worker, as host:pid
-- $8 text: version of the script, or null
WITH written AS (
  DELETE FROM pgq_jobs AS job
  USING unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::text[]) AS ended (id, lease, us, error, traceback)
  WHERE job.id = ended.id AND job.lease IS NOT DISTINCT FROM ended.lease
  RETURNING job.id, job.queue_name::text, ended.us, ended.error, ended.traceback,
    least(job.attempt, 2147483646) + CASE WHEN ended.lease IS NULL THEN 1 ELSE 0 END AS attempt,
    CASE WHEN ended.us IS NULL AND ended.lease >> 32 <> ($6::int8 & 1073741823::int8) THEN ended.lease >> 32 END
      AS other_worker),
recorded AS (
  INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome, error,
    traceback)
  SELECT id, queue_name, attempt, statement_timestamp() - us::float8 * interval '1 microsecond', statement_timestamp(),
    CASE WHEN other_worker IS NULL THEN NULLIF($6::int8, 0::int8) ELSE other_worker END,
    CASE WHEN other_worker IS NULL THEN $7::text END, CASE WHEN other_worker IS NULL THEN $8::text END,
    CASE WHEN error IS NULL THEN 'completed'::text ELSE 'discarded'::text END, error, traceback
  FROM written)
SELECT id FROM written
