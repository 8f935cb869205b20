-- Notes since when the advisory lock of each other worker has been free, and returns dead workers: two at most, other
-- ones for each worker that asks, since a whole fleet may find the same ones dead at the same time. A worker is dead
-- when its lock has been free for as long as a worker that has lost only its session needs to connect again, or when it
-- has sent no heartbeat for an hour. A worker behind a pooler has no lock: it is dead when it has sent no heartbeat for
-- a minute. Locking and unlocking are one expression, because a statement that is cancelled between the two could leave
-- the lock behind. Rows that another session has locked are left to that session.
--
-- The columns are those of enum dead_workers_column in statements.h. The last row, whose id is null, has the number of
-- milliseconds until the next worker may count as dead, and the number of other workers.
--
-- $1 int8: id of this worker's row, which is left out
-- $2 int8: for how many milliseconds a lock must have been free
WITH other AS MATERIALIZED (
  SELECT id, host, pid, last_seen_at, pooled, missing_since,
    NOT pooled AND CASE
      WHEN pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4)
      THEN pg_advisory_unlock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4)
      ELSE false END AS is_free
  FROM pgq_workers
  WHERE id <> $1),
changed AS MATERIALIZED (
  SELECT worker.id, other.is_free
  FROM other
  JOIN pgq_workers AS worker ON worker.id = other.id
  WHERE other.is_free <> (other.missing_since IS NOT NULL)
  FOR UPDATE OF worker SKIP LOCKED),
noted AS (
  UPDATE pgq_workers AS worker
  SET missing_since = CASE WHEN changed.is_free THEN now() END
  FROM changed
  WHERE worker.id = changed.id)
SELECT dead.id, NULL::int8, NULL::int8
FROM (
  SELECT other.id
  FROM other
  WHERE is_free AND missing_since <= now() - $2::float8 * interval '1 ms'
    OR last_seen_at < now() - CASE WHEN pooled THEN interval '1 min' ELSE interval '1 hour' END
  ORDER BY pg_catalog.hashint8extended(other.id, $1::int8)
  LIMIT 2::int8) AS dead
UNION ALL
SELECT NULL,
  (SELECT ceil(extract(epoch FROM min(coalesce(missing_since, now())) - now())::float8 * 1000::float8)::int8 + $2::int8
    FROM other WHERE is_free AND (missing_since IS NULL OR missing_since > now() - $2::float8 * interval '1 ms')),
  (SELECT count(*) FROM other)
