-- Takes the advisory lock on this worker's id again: the previous lock ends with its session. Returns false as long as
-- the server has not noticed that this session was lost.
--
-- $1 int8: id of the worker's row
SELECT pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, ($1::int8 & 2147483647::int8)::int4)
