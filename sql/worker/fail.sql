-- Writes failed attempts: a job that has a wait runs again after it, and a job that has none has failed for good and
-- stays in the table. Each attempt that is written gets a row in pgq_attempts, by the same statement: so it has a row
-- exactly if the job's row was changed. Returns the ids of the jobs that it wrote. The lease of a leased job has counted
-- the attempt already. If the attempt's process died and the lease is that of another worker, it was that worker's.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the milliseconds until its next attempt; null when it has failed for good
-- $4 text[]: for each job, the message of its error
-- $5 int4[]: for each job, the number of deaths that it has seen
-- $6 int8[]: for each job, the microseconds since its handler began; null when that is not known
-- $7 text[]: for each job, the traceback of its error, or null
-- $8 int8: id of this worker's row, or 0
-- $9 text: this worker, as host:pid
-- $10 text: version of the script, or null
-- prepared: yes
WITH written AS (
  UPDATE pgq_jobs AS job
  SET error = failed.error, lease = NULL, started_at = NULL, deaths = failed.deaths,
    attempt = least(job.attempt, 2147483646) + CASE WHEN failed.lease IS NULL THEN 1 ELSE 0 END,
    run_after = CASE WHEN failed.wait_ms IS NULL THEN job.run_after
      ELSE statement_timestamp() + failed.wait_ms::float8 * interval '1 millisecond' END,
    retry_waits = CASE WHEN failed.wait_ms IS NULL THEN job.retry_waits
      ELSE job.retry_waits[pg_catalog.array_lower(job.retry_waits, 1) + 1:] END,
    ran_at = CASE WHEN failed.wait_ms IS NULL THEN statement_timestamp() END
  FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int4[], $6::int8[], $7::text[])
    AS failed (id, lease, wait_ms, error, deaths, us, traceback)
  WHERE job.id = failed.id AND job.lease IS NOT DISTINCT FROM failed.lease
  RETURNING job.id, job.queue_name::text, job.attempt, failed.wait_ms, failed.error, failed.us, failed.traceback,
    CASE WHEN failed.us IS NULL AND failed.lease >> 32 <> ($8::int8 & 1073741823::int8) THEN failed.lease >> 32 END
      AS other_worker),
recorded AS (
  INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome, error,
    traceback)
  SELECT id, queue_name, attempt, statement_timestamp() - us::float8 * interval '1 microsecond', statement_timestamp(),
    CASE WHEN other_worker IS NULL THEN NULLIF($8::int8, 0::int8) ELSE other_worker END,
    CASE WHEN other_worker IS NULL THEN $9::text END, CASE WHEN other_worker IS NULL THEN $10::text END,
    CASE WHEN wait_ms IS NULL THEN 'failed'::text ELSE 'retried'::text END, error, traceback
  FROM written)
SELECT id FROM written
