-- Checks that the indexes of all tables exist and are valid. An index may have another name, if its definition is the
-- same. The columns are those of doctor_server.sql.
WITH wanted (relation, name, definition) AS (VALUES
  ('pgq_jobs'::text, 'pgq_jobs_pkey'::text, '(id)'::text),
  ('pgq_jobs', 'pgq_jobs_fetch', '(queue_name, run_after, id) WHERE (ran_at IS NULL)'),
  ('pgq_jobs', 'pgq_jobs_lease', '(lease) WHERE (lease IS NOT NULL)'),
  ('pgq_jobs', 'pgq_jobs_ended', 'ran_at DESC) WHERE (ran_at IS NOT NULL)'),
  ('pgq_workers', 'pgq_workers_pkey', '(id)'),
  ('pgq_queues', 'pgq_queues_pkey', '(queue_name)'),
  ('pgq_attempts', 'pgq_attempts_pkey', '(id)'),
  ('pgq_attempts', 'pgq_attempts_job', '(job_id, id)'),
  ('pgq_attempts', 'pgq_attempts_ended', 'brin (ended_at)'),
  ('pgq_stats', 'pgq_stats_pkey', '(queue_name, minute)'),
  ('pgq_stats', 'pgq_stats_minute', '(minute)'),
  ('pgq_audit', 'pgq_audit_at', '(at)')),
present AS (
  SELECT wanted.relation, index_class.relname::text AS name, pg_catalog.pg_get_indexdef(pg_index.indexrelid) AS definition,
    pg_index.indisvalid AND pg_index.indisready AS good
  FROM (SELECT DISTINCT relation FROM wanted) AS wanted
  JOIN pg_catalog.pg_index ON pg_index.indrelid = pg_catalog.to_regclass(wanted.relation)::oid
  JOIN pg_catalog.pg_class AS index_class ON index_class.oid = pg_index.indexrelid),
missing AS (
  SELECT wanted.relation, wanted.name, wanted.definition
  FROM wanted
  WHERE pg_catalog.to_regclass(wanted.relation) IS NOT NULL AND NOT EXISTS (
    SELECT FROM present WHERE present.relation = wanted.relation
      AND (present.name = wanted.name OR pg_catalog.strpos(present.definition, wanted.definition) > 0)))
SELECT 'indexes', 'bad', pg_catalog.concat('the index ', name, ' of ', relation, ' is missing'),
  CASE WHEN relation = 'pgq_jobs'::text AND name <> 'pgq_jobs_pkey'::text THEN 'pgq-lua migrate'
    WHEN name ~ '_pkey$' THEN pg_catalog.concat('ALTER TABLE ', relation, ' ADD PRIMARY KEY ', definition)
    ELSE pg_catalog.concat('CREATE INDEX CONCURRENTLY ', name, ' ON ', relation, ' ', CASE WHEN definition ~ '^brin'
      THEN 'USING ' END,
      definition) END
FROM missing
UNION ALL
SELECT 'indexes', 'bad', pg_catalog.concat('the index ', name, ' of ', relation,
  ' is not valid: building it was interrupted'),
  CASE WHEN name = ANY ('{pgq_jobs_fetch,pgq_jobs_lease,pgq_jobs_ended}'::text[]) THEN 'pgq-lua migrate'
    ELSE pg_catalog.concat('REINDEX INDEX CONCURRENTLY ', pg_catalog.quote_ident(name)) END
FROM present WHERE NOT good
UNION ALL
SELECT 'indexes', 'ok', pg_catalog.concat(pg_catalog.count(*), ' indexes exist and are valid'), NULL
FROM present
HAVING NOT EXISTS (SELECT FROM missing) AND pg_catalog.bool_and(present.good)
