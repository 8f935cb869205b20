-- Writes that this worker is alive. Returns whether its row was written, and whether there is such a row.
--
-- $1 int8: id of the worker's row
WITH written AS (
  UPDATE pgq_workers SET last_seen_at = now(), missing_since = NULL WHERE id = $1 RETURNING id)
SELECT EXISTS (SELECT FROM written), EXISTS (SELECT FROM pgq_workers WHERE id = $1)
