-- Gives leased jobs back as if they had never been claimed, and returns the ids of the jobs that it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease
-- $3 timestamptz[]: for each job, the run_after that it had before the lease
-- prepared: yes
UPDATE pgq_jobs AS job
SET run_after = freed.run_after, lease = NULL, started_at = NULL, attempt = job.attempt - 1
FROM unnest($1::int8[], $2::int8[], $3::timestamptz[]) AS freed (id, lease, run_after)
WHERE job.id = freed.id AND job.lease = freed.lease
RETURNING job.id
