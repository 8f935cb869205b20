-- Gives jobs back without counting the attempt, and counts a death: a process died while the jobs were in flight, and it
-- is not known which job caused the death. A job that has seen a death before is due again after 1, 2, 4 ... seconds, so
-- that other jobs run first; see deaths.h. Returns the ids of the jobs that it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease; null for a job that this transaction has locked
-- $3 timestamptz[]: for each job, the run_after that it had before the lease
-- prepared: yes
UPDATE pgq_jobs AS job
SET deaths = least(job.deaths, 32766) + 1, lease = NULL, started_at = NULL,
  run_after = CASE WHEN job.deaths > 0
    THEN statement_timestamp() + power(2::float8, (least(job.deaths::int4, 6) - 1)::float8) * interval '1 second'
    ELSE freed.run_after END,
  attempt = greatest(job.attempt - CASE WHEN freed.lease IS NULL THEN 0 ELSE 1 END, 0)
FROM unnest($1::int8[], $2::int8[], $3::timestamptz[]) AS freed (id, lease, run_after)
WHERE job.id = freed.id AND job.lease IS NOT DISTINCT FROM freed.lease
RETURNING job.id
