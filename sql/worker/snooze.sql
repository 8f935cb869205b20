-- Snoozes jobs: they run again after a wait, and the run does not count as an attempt. Returns the ids of the jobs that
-- it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 int8[]: for each job, the milliseconds until it runs again
-- prepared: yes
UPDATE pgq_jobs AS job
SET run_after = statement_timestamp() + snoozed.ms::float8 * interval '1 millisecond', lease = NULL, started_at = NULL,
  deaths = 0,
  attempt = job.attempt - CASE WHEN snoozed.lease IS NULL THEN 0 ELSE 1 END
FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS snoozed (id, lease, ms)
WHERE job.id = snoozed.id AND job.lease IS NOT DISTINCT FROM snoozed.lease
RETURNING job.id
