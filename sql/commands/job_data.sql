-- Returns the data of a job, or no row.
--
-- $1 int8: id of the job
SELECT data FROM pgq_jobs WHERE id = $1::int8
