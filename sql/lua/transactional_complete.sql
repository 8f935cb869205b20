-- Deletes the job of a transactional handler, in the transaction of the handler. A worker that has lost the lease of the
-- job deletes nothing, and the transaction is rolled back. %s is the schema of the table, because the handler may have
-- changed the search path of its transaction.
--
-- $1 int8: id of the job
-- $2 int8: token of its lease
DELETE FROM %s.pgq_jobs WHERE id OPERATOR(pg_catalog.=) $1 AND lease OPERATOR(pg_catalog.=) $2
