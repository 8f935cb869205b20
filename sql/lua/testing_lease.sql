-- Leases a job that this transaction has locked, counts the attempt, and returns the number of the attempt and the
-- token. The lease lasts longer than any test, because it is not extended. The attempt of a job that is leased already
-- is not counted again.
--
-- $1 int8: id of the job
UPDATE pgq_jobs
SET lease = (random() * 1e14::float8)::bigint + 1, run_after = now() + interval '1 day',
  attempt = least(attempt, 2147483646) + CASE WHEN lease IS NULL THEN 1 ELSE 0 END
WHERE id = $1
RETURNING attempt, lease
