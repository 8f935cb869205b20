-- Locks one job, and returns its id, or no row. A job that a worker has just claimed is locked: then this waits.
--
-- $1 int8: id of the job
SELECT id FROM pgq_jobs WHERE id = $1::int8 FOR UPDATE
