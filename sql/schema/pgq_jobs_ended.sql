-- For lists, bulk commands and retention: the jobs that have ended, by queue and outcome, the latest first. A statement
-- uses this index if it repeats the expression: c cancelled, d done (completed), f failed. A completed job that is deleted
-- never gets an entry here. An entry is no larger than that of pgq_jobs_fetch: otherwise a job with the longest possible
-- queue name could be enqueued, and could not end.
CREATE INDEX IF NOT EXISTS pgq_jobs_ended ON pgq_jobs (
  queue_name,
  (CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END),
  ran_at DESC
) WHERE ran_at IS NOT NULL;
COMMENT ON INDEX pgq_jobs_ended IS 'For lists of jobs that have ended, by queue and outcome (c cancelled, d completed, f failed), the latest first.';
