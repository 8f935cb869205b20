-- Marks a job as failed for good.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
-- $3 text: message of the error
-- $4 float8: the run_after that the job had before the lease, in Unix seconds
UPDATE pgq_jobs
SET ran_at = statement_timestamp(), lease = NULL, error = $3::text, run_after = to_timestamp($4::float8)
WHERE id = $1 AND lease = $2
