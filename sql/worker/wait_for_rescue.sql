-- Locks the same jobs as lock_for_rescue.sql, but waits for the sessions that have locked them. The worker uses it after
-- it has lost a session: as long as the server has not noticed the loss, the rows are still locked by that session.
--
-- $1 int8[]: ids of the jobs; a job that may or may not be leased is there twice
-- $2 int4[]: for each job, its attempt as the claim returned it
-- $3 int8[]: for each job, the token of its lease; null for a job that was only locked
-- $4 timestamptz[]: for each job, its run_after as the claim returned it
-- prepared: yes
SELECT job.id, true
FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::timestamptz[]) AS wanted (id, attempt, lease, run_after)
CROSS JOIN LATERAL (
  SELECT id FROM pgq_jobs
  WHERE pgq_jobs.id = wanted.id AND ran_at IS NULL
    AND pgq_jobs.lease IS NOT DISTINCT FROM wanted.lease
    AND (wanted.lease IS NOT NULL
      OR least(pgq_jobs.attempt, 2147483646) = wanted.attempt AND pgq_jobs.run_after = wanted.run_after)
  FOR UPDATE) AS job
