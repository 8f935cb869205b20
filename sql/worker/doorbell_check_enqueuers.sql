-- Returns true when no open transaction has enqueued into one of the buckets: none has raised its flag "enqueueing".
-- Locking and unlocking are one expression, because a statement that is cancelled between the two could leave the lock
-- behind, and then no enqueue would ring for that bucket.
--
-- $1 int4[]: buckets
SELECT coalesce(bool_and(
  CASE WHEN pg_try_advisory_lock('pgq_jobs'::regclass::oid::int4, bucket)
    THEN pg_advisory_unlock('pgq_jobs'::regclass::oid::int4, bucket) ELSE false END), true)
FROM pg_catalog.unnest($1::int4[]) AS bucket
