-- Writes failed attempts: a job that has a wait runs again after it, and a job that has none has failed for good and
-- stays in the table. Returns the ids of the jobs that it wrote. The lease of a leased job has counted the attempt
-- already.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the milliseconds until its next attempt; null when it has failed for good
-- $4 text[]: for each job, the message of its error
-- $5 int4[]: for each job, the number of deaths that it has seen
-- prepared: yes
UPDATE pgq_jobs AS job
SET error = failed.error, lease = NULL, started_at = NULL, deaths = failed.deaths,
  attempt = least(job.attempt, 2147483646) + CASE WHEN failed.lease IS NULL THEN 1 ELSE 0 END,
  run_after = CASE WHEN failed.wait_ms IS NULL THEN job.run_after
    ELSE statement_timestamp() + failed.wait_ms::float8 * interval '1 millisecond' END,
  retry_waits = CASE WHEN failed.wait_ms IS NULL THEN job.retry_waits
    ELSE job.retry_waits[pg_catalog.array_lower(job.retry_waits, 1) + 1:] END,
  ran_at = CASE WHEN failed.wait_ms IS NULL THEN statement_timestamp() END
FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int4[])
  AS failed (id, lease, wait_ms, error, deaths)
WHERE job.id = failed.id AND job.lease IS NOT DISTINCT FROM failed.lease
RETURNING job.id
