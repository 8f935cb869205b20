-- Gives jobs back without counting the attempt, and marks them as suspects: they had begun in an executor that died,
-- and the death could not be attributed to one job. The next claim runs them apart from other jobs. Returns the ids of
-- the jobs that it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 timestamptz[]: for each job, the run_after that it had before the lease
-- prepared: yes
UPDATE pgq_jobs AS job
SET suspect = true, run_after = freed.run_after, lease = NULL,
  attempt = job.attempt - CASE WHEN freed.lease IS NULL THEN 0 ELSE 1 END
FROM unnest($1::int8[], $2::int8[], $3::timestamptz[]) AS freed (id, lease, run_after)
WHERE job.id = freed.id AND job.lease IS NOT DISTINCT FROM freed.lease
RETURNING job.id
