-- Returns which name of the queues that workers register looks most like this one, or null if none looks like it: at most
-- a third of the characters may differ, as in runtime/commands/nearest.c. Of many names only 300 are compared: those whose
-- lengths differ least.
CREATE OR REPLACE FUNCTION pgq_why_nearest(queue_name text) RETURNS text LANGUAGE plpgsql STABLE AS $pgq$
BEGIN
  RETURN (
    SELECT near.name
    FROM (
      SELECT queue.name, queue.difference,
        pgq_why_distance(lower(queue.name), lower(pgq_why_nearest.queue_name)) AS distance
      FROM (
        SELECT DISTINCT registered.name, abs(length(registered.name) - length(pgq_why_nearest.queue_name)) AS difference
        FROM pgq_workers AS worker
        CROSS JOIN LATERAL pg_catalog.unnest(worker.queues) AS registered (name)
        WHERE worker.last_seen_at > statement_timestamp() - interval '1 min'
          AND registered.name <> pgq_why_nearest.queue_name
        ORDER BY difference, registered.name
        LIMIT 300) AS queue) AS near
    WHERE greatest(near.distance, near.difference) * 3
      <= greatest(length(near.name), length(pgq_why_nearest.queue_name))
    ORDER BY near.distance, near.name
    LIMIT 1);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_nearest(text) IS 'The registered queue whose name looks most like another, for pgq_why.';
