-- Writes a failed attempt of a job that runs again after a wait.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
-- $3 text: message of the error
-- $4 float8: seconds until the next attempt
UPDATE pgq_jobs
SET lease = NULL, error = $3::text,
  retry_waits = retry_waits[pg_catalog.array_lower(retry_waits, 1) + 1:],
  run_after = statement_timestamp() + $4::float8 * interval '1 second'
WHERE id = $1 AND lease = $2
