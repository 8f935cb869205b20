-- Returns the names of the queues that workers serve now, at most 10,000.
SELECT DISTINCT queue.name
FROM pgq_workers CROSS JOIN LATERAL pg_catalog.unnest(queues) AS queue (name)
WHERE last_seen_at > now() - interval '1 minute'
LIMIT 10000
