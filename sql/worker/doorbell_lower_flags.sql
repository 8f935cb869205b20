-- Lowers the flag "asleep" of each bucket, and returns whether it was up.
--
-- $1 int4[]: buckets
SELECT pg_advisory_unlock_shared('pgq_jobs'::regclass::oid::int4, 256 + bucket)
FROM pg_catalog.unnest($1::int4[]) AS bucket
