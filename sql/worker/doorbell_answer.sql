-- Tells the peers of this worker that it has looked since a ring, and that none of them has to look any more.
--
-- $1 int8: number of the ring
SELECT pg_notify('pgq_bell', pg_catalog.concat('answered:', 'pgq_jobs'::regclass::oid, ':', $1::int8))
