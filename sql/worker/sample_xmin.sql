-- Finds what keeps vacuum from removing dead rows, for the metrics of a worker: the age of the oldest snapshot or
-- transaction in transaction ids, and of the oldest transaction in milliseconds. Sessions, prepared transactions,
-- replication slots and standbys count. Postgres shows the sessions of other roles to members of pg_read_all_stats only.
-- The columns are those of enum sample_xmin_column in statements.h.
SELECT coalesce(pg_catalog.max(holder.ids), 0)::int8,
  coalesce(pg_catalog.max(ceil(extract(epoch FROM pg_catalog.clock_timestamp() - holder.since)::float8
    * 1000::float8)::int8), 0::int8)
FROM (
  SELECT greatest(pg_catalog.age(backend_xmin), pg_catalog.age(backend_xid)) AS ids, xact_start AS since
  FROM pg_catalog.pg_stat_activity
  WHERE pid <> pg_catalog.pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    AND datname = pg_catalog.current_database()
    AND coalesce(backend_type <> ALL ('{walsender,autovacuum worker}'::text[]), true)
  UNION ALL
  SELECT pg_catalog.age(transaction), prepared
  FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
  UNION ALL
  SELECT greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin)), NULL FROM pg_catalog.pg_replication_slots
  UNION ALL
  SELECT pg_catalog.age(backend_xmin), NULL FROM pg_catalog.pg_stat_replication WHERE backend_xmin IS NOT NULL) AS holder
