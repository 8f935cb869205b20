-- Makes the settings of a transaction of a command, whatever the role, the database or PGOPTIONS say. The search path stays
-- the user's, so that the tables are found, with pg_catalog in front and temporary tables at the end. Tables are read by
-- their indexes only, because the statistics of a table that was vacuumed while empty would choose to read all of it.
-- Settings that the server does not have are left out. The second column is the process number of the session.
--
-- $1 text: statement_timeout in milliseconds
-- $2 text: lock_timeout in milliseconds, or 0
SELECT pg_catalog.set_config(name, value, true), pg_catalog.pg_backend_pid()
FROM (VALUES
  ('search_path', pg_catalog.concat_ws(', ', 'pg_catalog',
    CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) ''
      THEN pg_catalog.current_setting('search_path') END, 'pg_temp')),
  ('plan_cache_mode', 'force_custom_plan'),
  ('enable_seqscan', 'off'),
  ('enable_bitmapscan', 'off'),
  ('enable_indexscan', 'on'),
  ('enable_indexonlyscan', 'on'),
  ('enable_nestloop', 'on'),
  ('max_parallel_workers_per_gather', '0'),
  ('jit', 'off'),
  ('row_security', 'off'),
  ('datestyle', 'ISO'),
  ('intervalstyle', 'postgres'),
  ('array_nulls', 'on'),
  ('standard_conforming_strings', 'on'),
  ('statement_timeout', $1),
  ('lock_timeout', $2),
  ('transaction_timeout', '0'),
  ('idle_in_transaction_session_timeout', '0')) AS settings (name, value)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL
