-- Deletes jobs that have ended. Returns how many rows it has locked, and how many of these it has deleted; then the ids
-- of the others, or null: they have not ended, or other sessions have locked them.
--
-- $1 int8[]: ids of the jobs
WITH locked AS MATERIALIZED (
  SELECT id FROM pgq_jobs WHERE id = ANY ($1::int8[]) AND ran_at IS NOT NULL FOR UPDATE SKIP LOCKED),
changed AS (
  DELETE FROM pgq_jobs AS job USING locked WHERE job.id = locked.id RETURNING job.id),
others AS (SELECT pg_catalog.unnest($1::int8[]) AS id EXCEPT SELECT id FROM locked)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM changed),
  (SELECT pg_catalog.array_agg(id) FROM others)
