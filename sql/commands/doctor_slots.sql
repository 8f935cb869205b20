-- Checks for replication slots that nobody uses: they keep write-ahead log, and some of them dead rows. The columns are
-- those of doctor_server.sql.
WITH slots AS (
  SELECT slot_name::text AS name, active, slot_type,
    greatest(pg_catalog.age(xmin), CASE WHEN database = pg_catalog.current_database()
      THEN pg_catalog.age(catalog_xmin) END) AS ids,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery()
      THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn) END AS kept
  FROM pg_catalog.pg_replication_slots)
SELECT 'slots', CASE WHEN ids > 1000000 OR kept > 10737418240::numeric THEN 'bad' ELSE 'warn' END,
  pg_catalog.concat('the ', slot_type, ' replication slot ', pg_catalog.quote_literal(name), ' is ', CASE
    WHEN NOT active THEN 'not ' END, 'used',
    ', and keeps ' || pg_catalog.pg_size_pretty(kept) || ' of write-ahead log',
      ', and dead rows for ' || ids::text || ' transactions'),
  pg_catalog.concat('SELECT pg_drop_replication_slot(', pg_catalog.quote_literal(name), ')')
FROM slots
WHERE NOT active OR ids > 1000000
UNION ALL
SELECT 'slots', 'ok', pg_catalog.concat(pg_catalog.count(*), ' replication slots, all in use'), NULL
FROM slots HAVING coalesce(pg_catalog.bool_and(active AND coalesce(ids <= 1000000, true)), true)
