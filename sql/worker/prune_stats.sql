-- Deletes old minutes of pgq_stats. Returns how many rows were deleted.
--
-- $1 int8: for how many milliseconds rows are kept
-- $2 int8: how many rows to delete at most
WITH old AS (
  SELECT queue_name, minute FROM pgq_stats
  WHERE minute < statement_timestamp() - $1::int8::float8 * interval '1 millisecond'
  ORDER BY minute LIMIT $2::int8),
gone AS (
  DELETE FROM pgq_stats USING old WHERE pgq_stats.queue_name = old.queue_name AND pgq_stats.minute = old.minute
  RETURNING pgq_stats.minute)
SELECT count(*) FROM gone
