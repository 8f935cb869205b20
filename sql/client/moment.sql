-- Returns the moment from which all jobs of enqueue_many are due, by the database's clock.
--
-- $1 int8: milliseconds from now
SELECT pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) ($1 OPERATOR(pg_catalog.*) interval '1 millisecond')
