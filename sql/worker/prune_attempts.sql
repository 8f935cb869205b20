-- Deletes old rows of pgq_attempts. Later attempts have larger ids, so the first ids are the oldest rows. Returns how many
-- rows were deleted.
--
-- $1 int8: for how many milliseconds rows are kept
-- $2 int8: how many rows to delete at most
WITH first AS (SELECT id, ended_at FROM pgq_attempts ORDER BY id LIMIT $2::int8),
gone AS (
  DELETE FROM pgq_attempts USING first
  WHERE pgq_attempts.id = first.id
    AND first.ended_at < statement_timestamp() - $1::int8::float8 * interval '1 millisecond'
  RETURNING pgq_attempts.id)
SELECT count(*) FROM gone
