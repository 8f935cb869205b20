-- Makes the settings of a session. Each statement of the worker has one good plan, an index range scan. The settings
-- forbid all other plans, because the statistics of a table that was vacuumed while empty would choose a slow one.
--
-- $1 text: idle_in_transaction_session_timeout in milliseconds
-- $2 bool: true when the settings end with the transaction, for a session that a pooler shares among its clients
SELECT set_config(name, value, $2)
FROM (VALUES
  ('plan_cache_mode', 'force_generic_plan'),
  ('enable_seqscan', 'off'),
  ('enable_bitmapscan', 'off'),
  ('enable_sort', 'off'),
  ('jit', 'off'),
  ('default_transaction_read_only', 'off'),
  ('default_transaction_isolation', 'read committed'),
  ('statement_timeout', '60000'),
  ('lock_timeout', '10000'),
  ('idle_in_transaction_session_timeout', $1),
  ('tcp_keepalives_idle', '10'),
  ('tcp_keepalives_interval', '5'),
  ('tcp_keepalives_count', '3'),
  ('tcp_user_timeout', '15000')) AS settings (name, value)
