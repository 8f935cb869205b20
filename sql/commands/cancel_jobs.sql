-- Cancels jobs that wait. Returns how many rows it has locked, and how many of these it has changed; then how many other
-- sessions have locked, and the least id of these. Jobs that run or have ended are left out.
--
-- $1 int8[]: ids of the jobs
WITH wanted AS MATERIALIZED (
  SELECT id FROM pgq_jobs
  WHERE id = ANY ($1::int8[]) AND ran_at IS NULL
    AND NOT (lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())),
locked AS MATERIALIZED (
  SELECT id FROM pgq_jobs
  WHERE id = ANY (ARRAY(SELECT id FROM wanted)) AND ran_at IS NULL
    AND NOT (lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())
  FOR UPDATE SKIP LOCKED),
changed AS (
  UPDATE pgq_jobs AS job SET ran_at = statement_timestamp(), cancelled = true, error = coalesce(job.error, 'cancelled'),
    lease = NULL, started_at = NULL, deaths = 0
  FROM locked WHERE job.id = locked.id RETURNING job.id),
passed AS (SELECT id FROM wanted EXCEPT SELECT id FROM locked)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM changed),
  (SELECT count(*) FROM passed), (SELECT min(id) FROM passed)
