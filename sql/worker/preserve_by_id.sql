-- Marks jobs as completed instead of deleting them, by their ids; see complete_by_id.sql.
--
-- $1 int8[]: ids of the jobs
-- prepared: yes
UPDATE pgq_jobs
SET ran_at = statement_timestamp(), attempt = least(attempt, 2147483646) + 1, error = NULL
WHERE id = ANY ($1::int8[])
