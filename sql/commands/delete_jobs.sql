-- Deletes jobs that have ended. Returns how many rows it has locked, and how many of these it has deleted; then how many
-- other sessions have locked, and the least id of these. Jobs that have not ended are left out.
--
-- $1 int8[]: ids of the jobs
WITH wanted AS MATERIALIZED (
  SELECT id FROM pgq_jobs WHERE id = ANY ($1::int8[]) AND ran_at IS NOT NULL),
locked AS MATERIALIZED (
  SELECT id FROM pgq_jobs WHERE id = ANY (ARRAY(SELECT id FROM wanted)) AND ran_at IS NOT NULL FOR UPDATE SKIP LOCKED),
changed AS (
  DELETE FROM pgq_jobs AS job USING locked WHERE job.id = locked.id RETURNING job.id),
passed AS (SELECT id FROM wanted EXCEPT SELECT id FROM locked)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM changed),
  (SELECT count(*) FROM passed), (SELECT min(id) FROM passed)
