-- Marks the job of a transactional handler as completed instead of deleting it; see transactional_complete.sql.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
UPDATE %s.pgq_jobs
SET ran_at = pg_catalog.statement_timestamp(), error = NULL, lease = NULL
WHERE id OPERATOR(pg_catalog.=) $1 AND lease OPERATOR(pg_catalog.=) $2
