-- Snoozes a job: it runs again after a wait, and the run does not count as an attempt.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
-- $3 float8: seconds until the job runs again
UPDATE pgq_jobs
SET lease = NULL, attempt = attempt - 1,
  run_after = statement_timestamp() + $3::float8 * interval '1 second'
WHERE id = $1 AND lease = $2
