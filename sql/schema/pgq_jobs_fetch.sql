-- A claim is one range scan of this index for each queue. The id orders the jobs that one statement has enqueued, because
-- they have the same run_after.
CREATE INDEX IF NOT EXISTS pgq_jobs_fetch ON pgq_jobs (queue_name, run_after, id) WHERE ran_at IS NULL;
COMMENT ON INDEX pgq_jobs_fetch IS 'For claims: the jobs that have not ended, by queue, in the order in which they fall due.';
