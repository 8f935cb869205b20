-- Locks jobs whose outcomes could not be written, because the session ended or the statement failed, so that they can
-- be written now. Leaves out the jobs that have changed since they were claimed. Returns the ids of the other jobs, and
-- whether it has locked them; another session has locked the rest.
--
-- $1 int8[]: ids of the jobs; a job that may or may not be leased is there twice
-- $2 int4[]: for each job, its attempt as the claim returned it
-- $3 int8[]: for each job, the token of its lease; null for a job that was only locked
-- $4 timestamptz[]: for each job, its run_after as the claim returned it
-- prepared: yes
SELECT seen.id, job.id IS NOT NULL
FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::timestamptz[]) AS wanted (id, attempt, lease, run_after)
CROSS JOIN LATERAL (
  SELECT id FROM pgq_jobs
  WHERE pgq_jobs.id = wanted.id AND ran_at IS NULL
    AND pgq_jobs.lease IS NOT DISTINCT FROM wanted.lease
    AND (wanted.lease IS NOT NULL
      OR least(pgq_jobs.attempt, 2147483646) = wanted.attempt AND pgq_jobs.run_after = wanted.run_after)) AS seen
LEFT JOIN LATERAL (
  SELECT id FROM pgq_jobs
  WHERE pgq_jobs.id = wanted.id AND ran_at IS NULL
    AND pgq_jobs.lease IS NOT DISTINCT FROM wanted.lease
    AND (wanted.lease IS NOT NULL
      OR least(pgq_jobs.attempt, 2147483646) = wanted.attempt AND pgq_jobs.run_after = wanted.run_after)
  FOR UPDATE SKIP LOCKED) AS job ON true
