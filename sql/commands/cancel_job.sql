-- Cancels one job, wherever it runs. Returns what pgq_cancel says.
--
-- $1 int8: id of the job
SELECT pgq_cancel($1::int8)
