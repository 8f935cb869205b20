-- Returns some jobs, to show which ones are selected.
--
-- $1 int8[]: ids of the jobs
SELECT id::text, queue_name, CASE
    WHEN ran_at IS NOT NULL THEN
      CASE WHEN cancelled THEN 'cancelled'::text WHEN error IS NULL THEN 'completed'::text ELSE 'failed'::text END
    WHEN lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp() THEN 'running'::text
    WHEN run_after <= clock_timestamp() THEN 'due'::text ELSE 'later'::text END,
  coalesce(ran_at, run_after)::text, error
FROM pgq_jobs WHERE id = ANY ($1::int8[])
