-- Makes the settings of a transaction of a migration. The tables are looked up in one schema: the first of the search path
-- that has a table pgq_jobs, or else the one in which the session creates tables. Whatever limits the role has must not
-- end a step. Settings that this server does not have are left out.
--
-- $1 text: lock_timeout in milliseconds
SELECT pg_catalog.set_config(wanted.name, wanted.value, true)
FROM (VALUES
  ('search_path', pg_catalog.concat(coalesce((
    SELECT pg_catalog.quote_ident(namespace.nspname)
    FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path (name, position)
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname OPERATOR(pg_catalog.=) path.name
    WHERE namespace.nspname OPERATOR(pg_catalog.!~) '^pg_temp_' AND EXISTS (
      SELECT FROM pg_catalog.pg_class AS class
      WHERE class.relnamespace OPERATOR(pg_catalog.=) namespace.oid AND class.relname OPERATOR(pg_catalog.=) 'pgq_jobs')
    ORDER BY path.position LIMIT 1), pg_catalog.quote_ident(pg_catalog.current_schema())), ', pg_temp')),
  ('lock_timeout', $1),
  ('statement_timeout', '0'),
  ('idle_in_transaction_session_timeout', '0'),
  ('transaction_timeout', '0'),
  ('client_min_messages', 'warning')) AS wanted (name, value)
WHERE EXISTS (
  SELECT FROM pg_catalog.pg_settings AS known WHERE known.name OPERATOR(pg_catalog.=) wanted.name)
