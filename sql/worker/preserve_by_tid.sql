-- Marks jobs as completed instead of deleting them, by the place of their rows; see complete_by_tid.sql.
--
-- $1 tid[]: places (ctid) of the jobs' rows
-- prepared: yes
UPDATE ONLY pgq_jobs
SET ran_at = statement_timestamp(), attempt = least(attempt, 2147483646) + 1, error = NULL
WHERE ctid = ANY ($1::tid[])
