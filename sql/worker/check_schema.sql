-- Returns the first thing in the tables with which the worker cannot work: a text for the log, and whether the thing is
-- missing, so that `pgq-lua migrate` helps. No row means that all is well. A domain counts as the type that it is made
-- of. Other types would be misread, since values travel in binary; an error text must fit, however long it is. Postgres
-- refuses statements that write jobs and attempts together when a table has rules for its updates. A role that had its
-- privileges before there was a table pgq_attempts may not write it: what the role does not have is named at once, with the
-- statements that grant it. Rights of columns are enough for pgq_jobs.
--
-- $1 bool: true to look only at pgq_jobs and pgq_attempts, in which outcomes are written
WITH wanted AS (
  SELECT relation, name, type, pg_catalog.row_number() OVER () AS position
  FROM (VALUES
    ('pgq_jobs', 'id', 'bigint'),
    ('pgq_jobs', 'created_at', 'timestamp with time zone'),
    ('pgq_jobs', 'queue_name', 'text'),
    ('pgq_jobs', 'data', 'bytea'),
    ('pgq_jobs', 'run_after', 'timestamp with time zone'),
    ('pgq_jobs', 'retry_waits', 'text[]'),
    ('pgq_jobs', 'ran_at', 'timestamp with time zone'),
    ('pgq_jobs', 'error', 'text'),
    ('pgq_jobs', 'attempt', 'integer'),
    ('pgq_jobs', 'lease', 'bigint'),
    ('pgq_jobs', 'started_at', 'timestamp with time zone'),
    ('pgq_jobs', 'deaths', 'smallint'),
    ('pgq_jobs', 'cancelled', 'boolean'),
    ('pgq_workers', 'id', 'bigint'),
    ('pgq_workers', 'host', 'text'),
    ('pgq_workers', 'pid', 'integer'),
    ('pgq_workers', 'version', 'text'),
    ('pgq_workers', 'queues', 'text[]'),
    ('pgq_workers', 'last_seen_at', 'timestamp with time zone'),
    ('pgq_workers', 'pooled', 'boolean'),
    ('pgq_workers', 'missing_since', 'timestamp with time zone'),
    ('pgq_workers', 'backend_pid', 'integer'),
    ('pgq_workers', 'status', 'jsonb'),
    ('pgq_workers', 'request', 'text'),
    ('pgq_queues', 'queue_name', 'text'),
    ('pgq_queues', 'paused_until', 'timestamp with time zone'),
    ('pgq_queues', 'resumed_at', 'timestamp with time zone'),
    ('pgq_attempts', 'job_id', 'bigint'),
    ('pgq_attempts', 'queue_name', 'text'),
    ('pgq_attempts', 'attempt', 'integer'),
    ('pgq_attempts', 'started_at', 'timestamp with time zone'),
    ('pgq_attempts', 'ended_at', 'timestamp with time zone'),
    ('pgq_attempts', 'worker_id', 'bigint'),
    ('pgq_attempts', 'worker', 'text'),
    ('pgq_attempts', 'version', 'text'),
    ('pgq_attempts', 'outcome', 'text'),
    ('pgq_attempts', 'error', 'text'),
    ('pgq_attempts', 'traceback', 'text'),
    ('pgq_stats', 'queue_name', 'text'),
    ('pgq_stats', 'minute', 'timestamp with time zone'),
    ('pgq_stats', 'completed', 'bigint'),
    ('pgq_stats', 'retried', 'bigint'),
    ('pgq_stats', 'failed', 'bigint'),
    ('pgq_stats', 'snoozed', 'bigint'),
    ('pgq_stats', 'cancelled', 'bigint'),
    ('pgq_stats', 'wait_ms', 'double precision'),
    ('pgq_stats', 'run_ms', 'double precision'),
    ('pgq_stats', 'wait_buckets', 'bigint[]'),
    ('pgq_stats', 'run_buckets', 'bigint[]')) AS wanted (relation, name, type)),
found AS (
  SELECT wanted.relation::text, wanted.name::text, wanted.type::text, wanted.position,
    pg_catalog.to_regclass(wanted.relation)::oid AS table_oid, pg_class.relkind, pg_attribute.attname, pg_attribute.atttypmod,
    pg_catalog.format_type(pg_attribute.atttypid, pg_attribute.atttypmod) AS seen_type,
    pg_catalog.format_type(CASE WHEN pg_type.typtype = 'd' THEN pg_type.typbasetype ELSE pg_type.oid END, NULL) AS base_type
  FROM wanted
  LEFT JOIN pg_catalog.pg_class ON pg_class.oid = pg_catalog.to_regclass(wanted.relation)::oid
  LEFT JOIN pg_catalog.pg_attribute ON attrelid = pg_class.oid AND attname = wanted.name::name AND NOT attisdropped
  LEFT JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
  WHERE NOT $1::bool OR wanted.relation::text = 'pgq_jobs'::text OR wanted.relation::text = 'pgq_attempts'::text),
rules AS (
  SELECT ev_class, pg_catalog.min(rulename::text) AS rule_name FROM pg_catalog.pg_rewrite
  WHERE ev_type = '2'::"char" AND ev_enabled IN ('O', 'A') GROUP BY ev_class),
needs (relation, privilege, is_vital, position) AS (
  SELECT words.relation::text, privilege.name::text, privilege.name = ANY (words.vital::text[]), words.position * 10 + privilege.number
  FROM (VALUES
    ('pgq_jobs', '{SELECT,UPDATE,DELETE}', '{SELECT,UPDATE,DELETE}', 1),
    ('pgq_workers', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT,INSERT,UPDATE,DELETE}', 2),
    ('pgq_attempts', '{SELECT,INSERT,UPDATE,DELETE}', '{INSERT}', 3),
    ('pgq_queues', '{SELECT}', '{SELECT}', 4),
    ('pgq_frontiers', '{SELECT,INSERT,UPDATE,DELETE}', '{}', 5),
    ('pgq_stats', '{SELECT,INSERT,UPDATE,DELETE}', '{}', 6),
    ('pgq_audit', '{SELECT,DELETE}', '{}', 7)) AS words (relation, privileges, vital, position)
  CROSS JOIN LATERAL pg_catalog.unnest(words.privileges::text[]) WITH ORDINALITY AS privilege (name, number)),
lacks AS (
  SELECT needs.relation, needs.is_vital, needs.privilege, needs.position
  FROM needs JOIN pg_catalog.pg_class AS class ON class.oid = pg_catalog.to_regclass(needs.relation)::oid
  WHERE NOT pg_catalog.has_table_privilege(class.oid, needs.privilege)
    AND NOT (needs.relation = 'pgq_jobs'::text AND needs.privilege <> 'DELETE'::text
      AND pg_catalog.has_any_column_privilege(class.oid, needs.privilege))),
lacking AS (
  SELECT pg_catalog.concat('the role ', current_user, ' does not have: ',
      pg_catalog.string_agg(each.privileges || ' on ' || each.relation, ', ' ORDER BY each.position),
      '. To grant that: ', pg_catalog.string_agg(
        'GRANT ' || each.privileges || ' ON ' || each.relation || ' TO ' || pg_catalog.quote_ident(current_user::text),
        pg_catalog.chr(59) || ' ' ORDER BY each.position)) AS problem
  FROM (
    SELECT lacks.relation, pg_catalog.string_agg(lacks.privilege, ', ' ORDER BY lacks.position) AS privileges,
      pg_catalog.min(lacks.position) AS position
    FROM lacks GROUP BY lacks.relation) AS each
  WHERE EXISTS (
    SELECT FROM lacks WHERE lacks.is_vital AND (NOT $1::bool OR lacks.relation = ANY ('{pgq_attempts,pgq_queues}'::text[])))
  HAVING pg_catalog.count(*) > 0::int8),
judged AS (
  SELECT CASE
    WHEN relkind IS NULL THEN pg_catalog.concat('the database has no table ', relation)
    WHEN relkind NOT IN ('r', 'p') THEN pg_catalog.concat(relation, ' is no table, but a view or a foreign table')
    WHEN attname IS NULL THEN pg_catalog.concat('the database has no column ', relation, '.', name)
    WHEN NOT (base_type = type OR (type = 'text'::text AND base_type = 'character varying'::text)) OR (name = 'error'::text AND atttypmod >= 0)
      THEN pg_catalog.concat('the column ', relation, '.', name, ' has the type ', seen_type, ', and the worker needs ', type)
    WHEN pg_catalog.row_security_active(table_oid)
      THEN pg_catalog.concat('row security of ', relation, ' may hide rows from the role ', current_user,
        ': use the owner of the table, or ALTER ROLE ... BYPASSRLS')
    WHEN relation = 'pgq_jobs'::text AND rules.rule_name IS NOT NULL
      THEN pg_catalog.concat('the rule ', rules.rule_name, ' of pgq_jobs is for UPDATE, and workers cannot write outcomes with it: use a trigger')
    END AS problem, relkind IS NULL OR attname IS NULL AS missing, position
  FROM found LEFT JOIN rules ON rules.ev_class = table_oid)
SELECT problem, missing
FROM (
  SELECT problem, missing, position FROM judged WHERE problem IS NOT NULL
  UNION ALL
  SELECT problem, false, 1000 FROM lacking WHERE problem IS NOT NULL) AS problems
ORDER BY missing DESC, position LIMIT 1
