-- Marks a job as completed instead of deleting it.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
UPDATE pgq_jobs
SET ran_at = statement_timestamp(), error = NULL, lease = NULL
WHERE id = $1 AND lease = $2
