-- Returns the schema in which pgq_jobs is found, quoted for use in a statement; no row if there is no such table. Skips
-- temporary tables. Every name is qualified, because the session has the search path of the handlers.
SELECT namespace.oid::pg_catalog.regnamespace AS name
FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path (name, position)
JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname OPERATOR(pg_catalog.=) path.name
WHERE namespace.nspname OPERATOR(pg_catalog.!~) '^pg_temp_' AND EXISTS (
  SELECT FROM pg_catalog.pg_class AS class
  WHERE class.relnamespace OPERATOR(pg_catalog.=) namespace.oid AND class.relname OPERATOR(pg_catalog.=) 'pgq_jobs')
ORDER BY path.position
LIMIT 1
