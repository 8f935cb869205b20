-- Returns whether this worker is the one that deletes old rows: the oldest that lives.
--
-- $1 int8: id of this worker's row
SELECT NOT EXISTS (
  SELECT FROM pgq_workers
  WHERE id < $1::int8 AND missing_since IS NULL AND last_seen_at > statement_timestamp() - interval '30 seconds')
