-- Deletes jobs that have ended. Returns how many rows it has locked, and how many of these it has deleted; jobs that other
-- sessions have locked, or that have not ended, are left out.
--
-- $1 int8[]: ids of the jobs
WITH locked AS MATERIALIZED (
  SELECT id FROM pgq_jobs WHERE id = ANY ($1::int8[]) AND ran_at IS NOT NULL FOR UPDATE SKIP LOCKED),
changed AS (
  DELETE FROM pgq_jobs AS job USING locked WHERE job.id = locked.id RETURNING job.id)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM changed)
