-- Returns the state of a job, or no row. After lock_job.sql, so that it is the state after any wait.
--
-- $1 int8: id of the job
SELECT CASE
  WHEN ran_at IS NOT NULL THEN
    CASE WHEN cancelled THEN 'cancelled'::text WHEN error IS NULL THEN 'completed'::text ELSE 'failed'::text END
  WHEN lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp() THEN 'running'::text
  WHEN run_after <= clock_timestamp() THEN 'due'::text ELSE 'later'::text END
FROM pgq_jobs WHERE id = $1::int8
