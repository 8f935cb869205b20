-- Cancels jobs that wait. Returns how many rows it has locked, and how many of these it has changed; then the ids of the
-- others, or null: they run or have ended, or other sessions have locked them.
--
-- $1 int8[]: ids of the jobs
WITH locked AS MATERIALIZED (
  SELECT id FROM pgq_jobs
  WHERE id = ANY ($1::int8[]) AND ran_at IS NULL
    AND NOT (lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())
  FOR UPDATE SKIP LOCKED),
changed AS (
  UPDATE pgq_jobs AS job SET ran_at = statement_timestamp(), cancelled = true, error = coalesce(job.error, 'cancelled'),
    lease = NULL, started_at = NULL, deaths = 0
  FROM locked WHERE job.id = locked.id RETURNING job.id),
others AS (SELECT pg_catalog.unnest($1::int8[]) AS id EXCEPT SELECT id FROM locked)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM changed),
  (SELECT pg_catalog.array_agg(id) FROM others)
