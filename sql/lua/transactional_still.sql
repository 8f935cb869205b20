-- Returns a row if the lease of a transactional handler's job is still its own, although the statement that completes the
-- job has changed no row; see transactional_complete.sql.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
SELECT id FROM %s.pgq_jobs WHERE id OPERATOR(pg_catalog.=) $1 AND lease OPERATOR(pg_catalog.=) $2
