-- Checks when vacuum last saw the tables, and how far the database is from the wraparound of transaction ids. The columns
-- are those of doctor_server.sql.
WITH tables AS (
  SELECT class.relname::text AS name, pg_catalog.pg_stat_get_dead_tuples(class.oid) AS dead,
    greatest(pg_catalog.pg_stat_get_live_tuples(class.oid), 0::int8) AS live,
    greatest(pg_catalog.pg_stat_get_last_autovacuum_time(class.oid),
      pg_catalog.pg_stat_get_last_vacuum_time(class.oid)) AS vacuumed_at,
    coalesce(pg_catalog.array_to_string(class.reloptions, ',') ~ 'autovacuum_enabled=(false|off|no|0)', false) AS disabled
  FROM pg_catalog.unnest('{pgq_jobs,pgq_workers,pgq_queues,pgq_attempts,pgq_stats}'::text[]) AS wanted (name)
  JOIN pg_catalog.pg_class AS class ON class.oid = pg_catalog.to_regclass(wanted.name)::oid),
judged AS (
  SELECT tables.*, CASE WHEN disabled THEN 'bad'
    WHEN dead > 50000::int8 + live / 5::int8 AND coalesce(vacuumed_at < now() - interval '15 min', true) THEN 'warn'
    WHEN name = 'pgq_jobs'::text THEN 'ok' END AS level
  FROM tables)
SELECT 'vacuum', level, pg_catalog.concat(name, ' was ', CASE WHEN vacuumed_at IS NULL THEN 'never vacuumed'
      ELSE 'last vacuumed ' || pg_catalog.date_trunc('second'::text, now() - vacuumed_at)::text || ' ago' END,
    ' and has ', dead, ' dead rows', CASE WHEN disabled THEN ', and autovacuum is disabled for it' END),
  CASE WHEN disabled THEN pg_catalog.concat('ALTER TABLE ', name, ' RESET (autovacuum_enabled)')
    WHEN level = 'warn'::text THEN pg_catalog.concat('VACUUM ', name) END
FROM judged WHERE level IS NOT NULL
UNION ALL
SELECT 'wraparound', CASE WHEN used > 1600000000 THEN 'bad' WHEN used > 1000000000 THEN 'warn' ELSE 'ok' END,
  pg_catalog.concat(used, ' of 2147483647 transaction ids are used since the oldest was frozen'),
  CASE WHEN used > 1000000000 THEN 'VACUUM FREEZE the oldest tables. The check of transactions says who keeps them old' END
FROM (
  SELECT greatest(pg_catalog.age(datfrozenxid), pg_catalog.mxid_age(datminmxid)) AS used
  FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS ages
