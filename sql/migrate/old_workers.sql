-- Returns the workers that are alive and cannot work with tables that this version has brought up to date, as one text for
-- a message; null if there is none. A worker is alive when it has its advisory lock, or when it was seen a moment ago.
SELECT pg_catalog.string_agg(
  pg_catalog.format('worker %s (pid %s on %s, version %s)', worker.id, worker.pid, worker.host, worker.version), ', '
  ORDER BY worker.id)
FROM pgq_workers AS worker
WHERE worker.version ~ '^0[.][01]([.]|$)'
  AND (worker.last_seen_at > now() - interval '20 s'
    OR EXISTS (
      SELECT FROM pg_locks
      WHERE locktype = 'advisory' AND granted
        AND classid = 'pgq_workers'::regclass::oid AND objid::int8 = (worker.id & 2147483647::int8)))
