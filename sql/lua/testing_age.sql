-- Makes all jobs older, which has the effect of moving the server's clock forward. Skips the jobs that the script under
-- test has locked in a transaction.
--
-- $1 float8: seconds
WITH free AS (
  SELECT id FROM pgq_jobs FOR UPDATE SKIP LOCKED)
UPDATE pgq_jobs AS job
SET created_at = created_at - $1::float8 * interval '1 second',
  run_after = run_after - $1::float8 * interval '1 second',
  ran_at = ran_at - $1::float8 * interval '1 second'
FROM free
WHERE job.id = free.id
