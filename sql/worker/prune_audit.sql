-- Deletes old rows of pgq_audit. Returns how many rows were deleted.
--
-- $1 int8: for how many milliseconds rows are kept
-- $2 int8: how many rows to delete at most
WITH old AS (
  SELECT id FROM pgq_audit WHERE at < statement_timestamp() - $1::int8::float8 * interval '1 millisecond'
  ORDER BY at LIMIT $2::int8),
gone AS (DELETE FROM pgq_audit USING old WHERE pgq_audit.id = old.id RETURNING pgq_audit.id)
SELECT count(*) FROM gone
