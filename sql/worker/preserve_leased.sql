-- Marks leased jobs as completed instead of deleting them, and returns the ids of the jobs that it wrote; see
-- complete_leased.sql. The lease has counted the attempt already.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease
-- prepared: yes
UPDATE pgq_jobs AS job
SET ran_at = statement_timestamp(), error = NULL, lease = NULL, started_at = NULL, deaths = 0
FROM unnest($1::int8[], $2::int8[]) AS done (id, lease)
WHERE job.id = done.id AND job.lease = done.lease
RETURNING job.id
