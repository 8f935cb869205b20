-- Takes the advisory lock on this worker's id again: the previous lock ended with its session.
--
-- $1 int8: id of the worker's row
SELECT pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, ($1::int8 & 2147483647)::int4)
