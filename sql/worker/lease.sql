-- Leases jobs that this transaction has locked: after the commit the token, instead of the lock, keeps other workers
-- from them. Counts the attempt, unless the row has this token already: the answer to an earlier COMMIT was lost.
-- Returns the ids of the jobs that it leased.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its new lease
-- $3 int8[]: for each job, how long the lease lasts, in milliseconds
-- prepared: yes
UPDATE pgq_jobs AS job
SET lease = leased.lease,
  started_at = CASE WHEN job.lease IS NOT DISTINCT FROM leased.lease THEN job.started_at ELSE statement_timestamp() END,
  attempt = least(job.attempt, 2147483646)
    + CASE WHEN job.lease IS NOT DISTINCT FROM leased.lease THEN 0 ELSE 1 END,
  run_after = statement_timestamp() + leased.ms::float8 * interval '1 millisecond'
FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS leased (id, lease, ms)
WHERE job.id = leased.id
RETURNING job.id
