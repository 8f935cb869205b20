-- Checks how much space the tables and indexes take beside what their rows need, and how many dead rows there are. What
-- rows need is estimated from statistics, so only a multiple of it counts, and only from 64 MB on. The columns are those of
-- doctor_server.sql.
WITH tables AS (
  SELECT class.oid, class.relname::text AS name, class.relnamespace,
    pg_catalog.pg_relation_size(class.oid::regclass) AS bytes,
    pg_catalog.pg_total_relation_size(class.oid::regclass) AS total,
    greatest(class.reltuples::float8, pg_catalog.pg_stat_get_live_tuples(class.oid)::float8, 0::float8) AS rows,
    pg_catalog.pg_stat_get_dead_tuples(class.oid) AS dead,
    coalesce(greatest(pg_catalog.pg_stat_get_last_autovacuum_time(class.oid),
      pg_catalog.pg_stat_get_last_vacuum_time(class.oid))
      > now() - interval '1 day', false) AS vacuumed
  FROM pg_catalog.unnest('{pgq_jobs,pgq_workers,pgq_queues,pgq_attempts,pgq_stats}'::text[]) AS wanted (name)
  JOIN pg_catalog.pg_class AS class ON class.oid = pg_catalog.to_regclass(wanted.name)::oid),
sized AS (
  SELECT tables.*, tables.rows * (coalesce((
    SELECT pg_catalog.sum(stats.avg_width)::float8 FROM pg_catalog.pg_stats AS stats
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname = stats.schemaname
    WHERE namespace.oid = tables.relnamespace AND stats.tablename::text = tables.name), 200::float8) + 40::float8) AS needed
  FROM tables),
indexes AS (
  SELECT sized.name AS relation, class.relname::text AS name, pg_catalog.pg_relation_size(class.oid::regclass) AS bytes,
    100::float8 * CASE WHEN sized.vacuumed AND class.reltuples::float8 >= 0::float8 THEN class.reltuples::float8
      ELSE sized.rows END AS needed
  FROM sized
  JOIN pg_catalog.pg_index ON pg_index.indrelid = sized.oid
  JOIN pg_catalog.pg_class AS class ON class.oid = pg_index.indexrelid)
SELECT * FROM (
  SELECT 'bloat'::text, CASE
    WHEN dead > 1000000::int8 AND dead::float8 > rows * 20::float8 THEN 'bad'
    WHEN dead > 100000::int8 AND dead::float8 > rows * 2::float8 OR bytes > 67108864::int8
      AND bytes::float8 > needed * 4::float8
      THEN 'warn'
    WHEN name = 'pgq_jobs'::text THEN 'ok' END,
  pg_catalog.concat(name, ': ', pg_catalog.pg_size_pretty(total), ' with its indexes, about ',
    pg_catalog.round(rows::numeric, 0),
    ' rows, ', dead, ' dead ones'),
  CASE WHEN dead > 100000::int8 AND dead::float8 > rows * 2::float8
      THEN pg_catalog.concat('VACUUM ', name, '. If the dead rows stay, the check of transactions says who keeps them')
    WHEN bytes > 67108864::int8 AND bytes::float8 > needed * 4::float8
      THEN pg_catalog.concat('VACUUM FULL ', name, ', which locks the table, or pg_repack, which does not') END
  FROM sized) AS judged (check_name, level, finding, repair)
WHERE level IS NOT NULL
UNION ALL
SELECT 'bloat', 'warn', pg_catalog.concat('the index ', name, ' has ', pg_catalog.pg_size_pretty(bytes),
  ', and needs about ',
    pg_catalog.pg_size_pretty(needed::int8)),
  pg_catalog.concat('REINDEX INDEX CONCURRENTLY ', pg_catalog.quote_ident(name))
FROM indexes
WHERE bytes > 67108864::int8 AND bytes::float8 > needed * 5::float8
