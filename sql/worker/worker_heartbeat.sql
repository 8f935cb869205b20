-- Writes that this worker is alive.
--
-- $1 int8: id of the worker's row
UPDATE pgq_workers SET last_seen_at = now() WHERE id = $1
