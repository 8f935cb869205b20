-- Makes the settings of a session, whatever the role, the database or PGOPTIONS say. Each statement of the worker has one
-- good plan, an index range scan. The settings forbid all other plans, because the statistics of a table that was
-- vacuumed while empty would choose a slow one. Rows that row security would hide are an error: a worker that does not
-- see all jobs would leave them for ever. Settings that the server does not know are left out; synchronous_commit is the
-- user's choice.
--
-- The search path stays the user's, so that the tables are found and users' triggers work, with pg_catalog in front and
-- temporary tables at the end. So no statement of the worker calls a function or operator that another role has created:
-- each call fits the arguments of the one in pg_catalog exactly, or is qualified.
--
-- $1 text: idle_in_transaction_session_timeout in milliseconds
-- $2 bool: true when the settings end with the transaction, for a session that a pooler shares among its clients
SELECT pg_catalog.set_config(name, value, $2)
FROM (VALUES
  ('search_path', pg_catalog.concat_ws(', ', 'pg_catalog',
    CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) ''
      THEN pg_catalog.current_setting('search_path') END, 'pg_temp')),
  ('plan_cache_mode', 'force_generic_plan'),
  ('enable_seqscan', 'off'),
  ('enable_bitmapscan', 'off'),
  ('enable_sort', 'off'),
  ('enable_indexscan', 'on'),
  ('enable_indexonlyscan', 'on'),
  ('enable_tidscan', 'on'),
  ('enable_nestloop', 'on'),
  ('jit', 'off'),
  ('default_transaction_read_only', 'off'),
  ('default_transaction_isolation', 'read committed'),
  ('default_transaction_deferrable', 'off'),
  ('row_security', 'off'),
  ('array_nulls', 'on'),
  ('standard_conforming_strings', 'on'),
  ('datestyle', 'ISO'),
  ('intervalstyle', 'postgres'),
  ('statement_timeout', '60000'),
  ('lock_timeout', '10000'),
  ('transaction_timeout', '0'),
  ('idle_session_timeout', '0'),
  ('idle_in_transaction_session_timeout', $1),
  ('tcp_keepalives_idle', '10'),
  ('tcp_keepalives_interval', '5'),
  ('tcp_keepalives_count', '3'),
  ('tcp_user_timeout', '15000')) AS settings (name, value)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL
