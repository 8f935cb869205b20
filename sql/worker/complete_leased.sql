-- Deletes completed jobs that are leased, and returns the ids of the jobs that it deleted. A worker that has lost the
-- lease of a job no longer has the right token, so it deletes nothing.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease
-- prepared: yes
DELETE FROM pgq_jobs AS job
USING unnest($1::int8[], $2::int8[]) AS done (id, lease)
WHERE job.id = done.id AND job.lease = done.lease
RETURNING job.id
