-- Returns the first table or column that the worker needs and the database lacks, as a text for the log. No row means
-- that nothing is missing.
SELECT CASE WHEN to_regclass(wanted.relation) IS NULL THEN 'table ' || wanted.relation
  ELSE 'column ' || wanted.relation || '.' || wanted.name END
FROM (VALUES
  ('pgq_jobs', 'id'),
  ('pgq_jobs', 'created_at'),
  ('pgq_jobs', 'queue_name'),
  ('pgq_jobs', 'data'),
  ('pgq_jobs', 'run_after'),
  ('pgq_jobs', 'retry_waits'),
  ('pgq_jobs', 'ran_at'),
  ('pgq_jobs', 'error'),
  ('pgq_jobs', 'attempt'),
  ('pgq_jobs', 'lease'),
  ('pgq_jobs', 'started_at'),
  ('pgq_jobs', 'deaths'),
  ('pgq_workers', 'last_seen_at'),
  ('pgq_workers', 'pooled'),
  ('pgq_workers', 'missing_since')) AS wanted (relation, name)
WHERE NOT EXISTS (
  SELECT FROM pg_attribute
  WHERE attrelid = to_regclass(wanted.relation)::oid AND attname = wanted.name AND NOT attisdropped)
LIMIT 1
