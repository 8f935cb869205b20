-- Deletes a completed job.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
DELETE FROM pgq_jobs WHERE id = $1 AND lease = $2
