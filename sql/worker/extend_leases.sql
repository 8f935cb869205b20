-- Extends leases. Returns the ids of the jobs whose lease is lost (true), and of those whose row could not be changed
-- although this statement has locked it (false); and whether the lease is lost because the job was cancelled. It skips
-- rows that another session has locked, so that one locked row does not delay the other leases; the next call extends
-- them.
--
-- $1 int8[]: ids of the jobs
-- $2 int8[]: for each job, the token of its lease
-- $3 int8[]: for each job, how long the lease lasts from now, in milliseconds; 0 only asks whether it is lost
WITH held AS (
  SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS held (id, lease, ms)),
mine AS (
  SELECT job.id, held.ms
  FROM held
  CROSS JOIN LATERAL (
    SELECT id FROM pgq_jobs
    WHERE pgq_jobs.id = held.id AND pgq_jobs.lease = held.lease AND held.ms > 0
    FOR UPDATE SKIP LOCKED) AS job),
extended AS (
  UPDATE pgq_jobs AS job
  SET run_after = statement_timestamp() + mine.ms::float8 * interval '1 millisecond'
  FROM mine
  WHERE job.id = mine.id
  RETURNING job.id)
SELECT held.id, true, EXISTS (
  SELECT FROM pgq_jobs AS job
  WHERE job.id = held.id AND job.cancelled AND job.ran_at IS NOT NULL)
FROM held
WHERE NOT EXISTS (
  SELECT FROM pgq_jobs AS job
  WHERE job.id = held.id AND job.lease = held.lease)
UNION ALL
SELECT mine.id, false, false
FROM mine
WHERE NOT EXISTS (SELECT FROM extended WHERE extended.id = mine.id)
