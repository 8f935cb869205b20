-- Returns the first step that the tables need, or no row: then they are up to date. It only looks at the catalog, and takes
-- no lock on the tables. The columns are those of enum step_column in migrate_steps.c. Each step can be run again, so an
-- interrupted migration is continued by the next one. Kinds of steps:
--   create      runs create_table.sql, since there is no table
--   go          runs upgrade.sql, for the table of btubbs/pgq
--   functions   runs the files of the functions; needs no lock on the tables
--   trigger     runs the file of the trigger, under a lock that is tried for a moment
--   file        runs the file of a table that is missing
--   strong      the statement needs a lock that makes others wait, and is tried for a moment
--   weak        the statement needs a lock that only makes other changes of the table wait
--   alone       the statement must not be in a transaction: an index is built or dropped beside running sessions
--   rows        the statement changes rows, which the catalog does not show: it is run once in each migration
--   refuse      nothing may be changed; the name says why
-- An index counts by its definition, since a table that was made by LIKE has the same one under another name.
-- The last column says whether workers of version 0.1 cannot work after the migration; so no step is begun beside them.
--
-- $1 text[]: names of the functions
-- $2 text[]: for each function, its body
-- $3 text[]: names of steps to leave out
WITH tables AS (
  SELECT to_regclass('pgq_jobs')::oid AS jobs, to_regclass('pgq_workers')::oid AS workers, to_regclass('pgq_stats')::oid AS stats,
    current_schema()::text AS home, pg_catalog.quote_ident(current_schema()) AS home_quoted),
columns AS (
  SELECT pg_class.relname AS of_table, pg_attribute.*, pg_catalog.pg_get_expr(adbin, adrelid) AS initial
  FROM tables
  JOIN pg_attribute ON attrelid IN (tables.jobs, tables.workers, tables.stats) AND attnum > 0::int2 AND NOT attisdropped
  JOIN pg_class ON pg_class.oid = attrelid
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum),
wanted_columns (of_table, name, definition) AS (VALUES
  ('pgq_jobs', 'attempt', 'integer NOT NULL DEFAULT 0'),
  ('pgq_jobs', 'lease', 'bigint'),
  ('pgq_jobs', 'started_at', 'timestamptz'),
  ('pgq_jobs', 'deaths', 'smallint NOT NULL DEFAULT 0'),
  ('pgq_jobs', 'cancelled', 'boolean NOT NULL DEFAULT false'),
  ('pgq_jobs', 'meta', 'jsonb'),
  ('pgq_workers', 'pooled', 'boolean NOT NULL DEFAULT false'),
  ('pgq_workers', 'missing_since', 'timestamptz'),
  ('pgq_workers', 'status', 'jsonb'),
  ('pgq_workers', 'request', 'text'),
  ('pgq_workers', 'backend_pid', 'integer'),
  ('pgq_stats', 'cancelled', 'bigint NOT NULL DEFAULT 0')),
wanted_defaults (of_table, name, definition) AS (VALUES
  ('pgq_jobs', 'run_after', 'now()'),
  ('pgq_jobs', 'retry_waits', '''{1m0s,10m0s,30m0s}''::text[]')),
wanted_settings (of_table, setting) AS (VALUES
  ('pgq_jobs', 'fillfactor=90'),
  ('pgq_jobs', 'autovacuum_vacuum_scale_factor=0.01'),
  ('pgq_jobs', 'autovacuum_vacuum_threshold=1000'),
  ('pgq_jobs', 'autovacuum_vacuum_insert_scale_factor=0.1'),
  ('pgq_jobs', 'autovacuum_vacuum_cost_delay=0'),
  ('pgq_jobs', 'autovacuum_analyze_scale_factor=0.1'),
  ('pgq_jobs', 'toast.autovacuum_vacuum_scale_factor=0.01'),
  ('pgq_jobs', 'toast.autovacuum_vacuum_threshold=1000'),
  ('pgq_jobs', 'toast.autovacuum_vacuum_cost_delay=0'),
  ('pgq_workers', 'fillfactor=50'),
  ('pgq_workers', 'autovacuum_vacuum_scale_factor=0'),
  ('pgq_workers', 'autovacuum_vacuum_threshold=100')),
settings AS (
  SELECT pg_class.relname AS of_table, setting.text AS setting
  FROM tables JOIN pg_class ON pg_class.oid IN (tables.jobs, tables.workers)
  CROSS JOIN LATERAL pg_catalog.unnest(pg_class.reloptions) AS setting (text)
  UNION ALL
  SELECT pg_class.relname, 'toast.' || setting.text
  FROM tables JOIN pg_class ON pg_class.oid IN (tables.jobs, tables.workers)
  JOIN pg_class AS toast ON toast.oid = pg_class.reltoastrelid
  CROSS JOIN LATERAL pg_catalog.unnest(toast.reloptions) AS setting (text)),
wanted_checks (name, expression) AS (VALUES
  ('pgq_jobs_queue_name_check', 'ran_at IS NOT NULL OR octet_length(queue_name) >= 1 AND octet_length(queue_name) <= 1048576'),
  ('pgq_jobs_retry_waits_check', 'ran_at IS NOT NULL OR pg_catalog.pg_column_size(retry_waits) <= 100 OR pg_catalog.cardinality(retry_waits) <= 1000'
    || ' AND octet_length(pg_catalog.array_to_string(retry_waits, '''')) <= 32768'),
  ('pgq_jobs_attempt_check', 'ran_at IS NOT NULL OR attempt >= 0'),
  ('pgq_jobs_deaths_check', 'deaths >= 0')),
wanted_indexes (name, definition) AS (VALUES
  ('pgq_jobs_fetch', '(queue_name, run_after, id) WHERE ran_at IS NULL'),
  ('pgq_jobs_lease', '(lease) WHERE lease IS NOT NULL'),
  ('pgq_jobs_ended', '(queue_name, ( CASE WHEN cancelled THEN ''c''::"char" WHEN (error IS NULL) THEN ''d''::"char" '
    || 'ELSE ''f''::"char" END), ran_at DESC) WHERE ran_at IS NOT NULL')),
indexes AS (
  SELECT relname, indisvalid, pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '\s+', ' ', 'g') AS definition
  FROM tables JOIN pg_index ON indrelid = tables.jobs JOIN pg_class ON pg_class.oid = indexrelid),
functions AS (
  SELECT proc.proname, proc.prosrc, proc.proconfig, proc.proowner
  FROM pg_proc AS proc JOIN pg_namespace ON pg_namespace.oid = pronamespace JOIN tables ON nspname::text = tables.home),
steps (position, name, kind, of_table, statement, breaks) AS (
  SELECT 1, pg_catalog.format('the function %s belongs to the role %s, who could change what it does: drop the function', proname,
    proowner::regrole), 'refuse', NULL, NULL, false
  FROM functions LEFT JOIN pg_class ON pg_class.oid = (SELECT jobs FROM tables)
  JOIN pg_roles ON pg_roles.oid = proowner
  WHERE proname::text OPERATOR(pg_catalog.=) ANY ($1::text[]) AND NOT rolsuper AND pg_roles.rolname <> current_user
    AND pg_roles.oid IS DISTINCT FROM relowner
  UNION ALL
  SELECT 2, 'creating the tables', 'create', NULL, NULL, false FROM tables WHERE jobs IS NULL
  UNION ALL
  SELECT 3, 'changing the id of the table of btubbs/pgq, which rewrites the table', 'go', 'pgq_jobs', NULL, true
  FROM columns WHERE of_table = 'pgq_jobs' AND attname = 'id' AND (atttypid <> 'int8'::regtype::oid OR attidentity = '')
  UNION ALL
  SELECT 4, 'creating the table ' || wanted.name, 'file', wanted.name, NULL, false
  FROM (VALUES ('pgq_workers'::text), ('pgq_frontiers'::text), ('pgq_queues'::text), ('pgq_attempts'::text), ('pgq_stats'::text),
    ('pgq_audit'::text)) AS wanted (name), tables
  WHERE to_regclass(wanted.name) IS NULL AND jobs IS NOT NULL
  UNION ALL
  SELECT 5, 'adding columns to ' || of_table, 'strong', of_table, pg_catalog.format('ALTER TABLE %s %s', of_table,
    pg_catalog.string_agg('ADD COLUMN IF NOT EXISTS ' || name || ' ' || definition, ', ')), false
  FROM wanted_columns
  WHERE NOT EXISTS (SELECT FROM columns WHERE columns.of_table = wanted_columns.of_table::name AND attname = name::name)
  GROUP BY of_table
  UNION ALL
  SELECT 6, 'adding defaults to ' || wanted.of_table, 'strong', wanted.of_table, pg_catalog.format('ALTER TABLE %s %s',
    wanted.of_table, pg_catalog.string_agg(
      pg_catalog.format('ALTER COLUMN %s SET DEFAULT %s', wanted.name, wanted.definition), ', ')), false
  FROM wanted_defaults AS wanted JOIN columns ON columns.of_table = wanted.of_table::name AND attname = wanted.name::name
  WHERE initial IS NULL
  GROUP BY wanted.of_table
  UNION ALL
  SELECT 6, 'counting a death for jobs that were suspect', 'rows', 'pgq_jobs',
    'UPDATE pgq_jobs SET deaths = 1 WHERE suspect AND ran_at IS NULL AND deaths = 0', true
  FROM columns WHERE of_table = 'pgq_jobs' AND attname = 'suspect'
  UNION ALL
  SELECT 7, 'adding settings to ' || of_table, 'weak', of_table, pg_catalog.format('ALTER TABLE %s SET (%s)', of_table,
    pg_catalog.string_agg(setting, ', ')), false
  FROM wanted_settings AS wanted
  WHERE NOT EXISTS (SELECT FROM settings
    WHERE settings.of_table = wanted.of_table::name
      AND pg_catalog.split_part(settings.setting, '=', 1) = pg_catalog.split_part(wanted.setting, '=', 1))
  GROUP BY of_table
  UNION ALL
  SELECT 8, 'adding the check ' || name, 'strong', 'pgq_jobs',
    pg_catalog.format('ALTER TABLE pgq_jobs ADD CONSTRAINT %s CHECK (%s) NOT VALID', name, expression), false
  FROM wanted_checks, tables
  WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = tables.jobs AND conname = name::name)
  UNION ALL
  SELECT 11, 'dropping the column suspect, which deaths replaces', 'strong', 'pgq_jobs',
    'ALTER TABLE pgq_jobs DROP COLUMN IF EXISTS suspect', true
  FROM columns WHERE of_table = 'pgq_jobs' AND attname = 'suspect'
  UNION ALL
  SELECT 12, 'dropping the unfinished index ' || name, 'alone', 'pgq_jobs',
    pg_catalog.format('DROP INDEX CONCURRENTLY IF EXISTS %s.%s', home_quoted, name), false
  FROM wanted_indexes JOIN indexes ON relname = name::name AND NOT indisvalid, tables
  UNION ALL
  SELECT 13, 'building the index ' || name, 'alone', 'pgq_jobs',
    pg_catalog.format('CREATE INDEX CONCURRENTLY %s ON %s.pgq_jobs %s', name, home_quoted, wanted_indexes.definition), false
  FROM wanted_indexes, tables
  WHERE NOT EXISTS (
    SELECT FROM indexes
    WHERE relname = name::name OR pg_catalog.strpos(indexes.definition,
      pg_catalog.concat(pg_catalog.replace(wanted_indexes.definition, ' WHERE ', ' WHERE ('), ')')) > 0)
  UNION ALL
  SELECT 14, 'dropping the index of btubbs/pgq', 'alone', 'pgq_jobs',
    pg_catalog.format('DROP INDEX CONCURRENTLY IF EXISTS %s.idx_pgq_jobs_fetch', home_quoted), false
  FROM indexes, tables WHERE relname = 'idx_pgq_jobs_fetch'
  UNION ALL
  SELECT 15, 'checking the rows for ' || conname::text, 'weak', 'pgq_jobs',
    pg_catalog.format('ALTER TABLE pgq_jobs VALIDATE CONSTRAINT %s', conname), false
  FROM pg_constraint, tables, wanted_checks
  WHERE conrelid = tables.jobs AND conname = name::name AND NOT convalidated
  UNION ALL
  SELECT 9, 'creating the functions', 'functions', NULL, NULL, false
  FROM unnest($1::text[], $2::text[]) AS wanted (name, body), tables
  WHERE NOT EXISTS (SELECT FROM functions
    WHERE proname = name::name AND prosrc = body AND (name = 'pgq_ring' OR proconfig OPERATOR(pg_catalog.@>)
      ARRAY[pg_catalog.format('search_path=pg_catalog, %s, pg_temp', home_quoted)]))
  UNION ALL
  SELECT 10, 'creating the trigger', 'trigger', 'pgq_jobs', NULL, false
  FROM tables
  WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = tables.jobs AND tgname = 'pgq_ring'
    AND pg_catalog.strpos(pg_catalog.pg_get_triggerdef(pg_trigger.oid),
      pg_catalog.quote_literal(tables.jobs::text || ':')) > 0))
SELECT name, kind, of_table, statement,
  breaks OR EXISTS (SELECT FROM columns WHERE of_table = 'pgq_jobs' AND attname = 'suspect')
FROM steps
WHERE NOT name OPERATOR(pg_catalog.=) ANY ($3::text[])
ORDER BY position, name
LIMIT 1
