-- Raises the flag "asleep" of each bucket, and returns the bucket and whether the flag is up now. A flag cannot be
-- raised while a session that enqueues is looking at it.
--
-- $1 int4[]: buckets
SELECT bucket, pg_try_advisory_lock_shared('pgq_jobs'::regclass::oid::int4, 256 + bucket)
FROM pg_catalog.unnest($1::int4[]) AS bucket
