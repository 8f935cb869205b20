-- The search path of the functions: pg_catalog first, then the schema of the tables. So they find their table whatever the
-- caller's search path is, and no temporary table hides it. Operators and functions of the schema that fit a call better
-- than those of pg_catalog would still be taken: therefore the functions write calls that fit exactly, or qualify them.
DO $pgq$
DECLARE
  jobs_schema text := pg_catalog.quote_ident((
    SELECT nspname FROM pg_catalog.pg_namespace AS namespace JOIN pg_catalog.pg_class AS class
      ON namespace.oid OPERATOR(pg_catalog.=) class.relnamespace
    WHERE class.oid OPERATOR(pg_catalog.=) 'pgq_jobs'::pg_catalog.regclass::pg_catalog.oid)::pg_catalog.text);
BEGIN
  EXECUTE pg_catalog.format('ALTER FUNCTION pgq_enqueue(pg_catalog.text, pg_catalog.bytea, pg_catalog.timestamptz, pg_catalog.text[])'
    ' SET search_path = pg_catalog, %s, pg_temp', jobs_schema);
  EXECUTE pg_catalog.format('ALTER FUNCTION pgq_cancel(pg_catalog.int8) SET search_path = pg_catalog, %s, pg_temp',
    jobs_schema);
  EXECUTE pg_catalog.format('ALTER FUNCTION pgq_retry(pg_catalog.int8, pg_catalog.bool)'
    ' SET search_path = pg_catalog, %s, pg_temp', jobs_schema);
  EXECUTE pg_catalog.format('ALTER FUNCTION pgq_pause(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.text)'
    ' SET search_path = pg_catalog, %s, pg_temp', jobs_schema);
  EXECUTE pg_catalog.format('ALTER FUNCTION pgq_resume(pg_catalog.text) SET search_path = pg_catalog, %s, pg_temp',
    jobs_schema);
END
$pgq$;
