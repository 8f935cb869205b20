-- Deletes the rows of dead workers, and returns their machines and process numbers. A worker is dead when its advisory
-- lock is free, or when it has sent no heartbeat for an hour. A worker behind a pooler has no lock: it is dead when it
-- has sent no heartbeat for a minute. A worker whose last heartbeat is recent is not dead in any case: it may have lost
-- its session and be connecting again. Locking and unlocking are one expression, because a statement that is cancelled
-- between the two could leave the lock behind.
--
-- $1 int8: id of this worker's row, which is never deleted here
-- $2 int8: for how many milliseconds a heartbeat counts as recent
DELETE FROM pgq_workers
WHERE id <> $1 AND last_seen_at < now() - $2::float8 * interval '1 ms'
  AND (last_seen_at < now() - CASE WHEN pooled THEN interval '1 min' ELSE interval '1 hour' END
    OR CASE WHEN pooled THEN false
      WHEN pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4)
        THEN pg_advisory_unlock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4) ELSE false END)
RETURNING host, pid
