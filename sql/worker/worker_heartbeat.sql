-- Writes that this worker is alive, what it does, and which server process its control session has. Returns whether its row
-- was written, whether there is such a row, and what time it is.
--
-- $1 int8: id of the worker's row
-- $2 text: its status, a JSON object
WITH written AS (
  UPDATE pgq_workers
  SET last_seen_at = now(), missing_since = NULL, status = $2::text::jsonb,
    backend_pid = CASE WHEN NOT pooled THEN pg_backend_pid() END
  WHERE id = $1
  RETURNING id)
SELECT EXISTS (SELECT FROM written), EXISTS (SELECT FROM pgq_workers WHERE id = $1), statement_timestamp()
