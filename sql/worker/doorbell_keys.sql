-- Returns the keys of the doorbell's advisory locks, one row for each bucket, with the columns of enum
-- doorbell_keys_column in statements.h. The function pgq_ring (sql/schema/pgq_ring.sql) must use the same keys: the
-- class is the oid of pgq_jobs; the object is the bucket of the queue's name for the flag "enqueueing", and the bucket
-- plus 256 for the flag "asleep".
--
-- $1 text[]: names of the queues
SELECT 'pgq_jobs'::regclass::oid::int8,
  EXISTS (
    SELECT FROM pg_trigger
    WHERE tgrelid = 'pgq_jobs'::regclass::oid AND tgname = 'pgq_ring' AND tgenabled IN ('O', 'A')),
  bucket
FROM (SELECT DISTINCT hashtext(name) & 255 AS bucket FROM pg_catalog.unnest($1::text[]) AS name) AS queue
ORDER BY bucket
