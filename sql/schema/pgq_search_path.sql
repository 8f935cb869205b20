-- The search path of the functions, except the trigger's: pg_catalog first, then the schema of the tables. So they find
-- their tables whatever the caller's search path is, and no temporary table hides them. Operators and functions of the
-- schema that fit a call better than those of pg_catalog would still be taken: therefore the functions write calls that
-- fit exactly, or qualify them.
DO $pgq$
DECLARE
  signature text;
  jobs_schema text := pg_catalog.quote_ident((
    SELECT nspname FROM pg_catalog.pg_namespace AS namespace JOIN pg_catalog.pg_class AS class
      ON namespace.oid OPERATOR(pg_catalog.=) class.relnamespace
    WHERE class.oid OPERATOR(pg_catalog.=) 'pgq_jobs'::pg_catalog.regclass::pg_catalog.oid)::pg_catalog.text);
BEGIN
  FOREACH signature IN ARRAY ARRAY[
    'pgq_enqueue(pg_catalog.text, pg_catalog.bytea, pg_catalog.timestamptz, pg_catalog.text[])',
    'pgq_cancel(pg_catalog.int8)',
    'pgq_retry(pg_catalog.int8, pg_catalog.bool)',
    'pgq_pause(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.text)',
    'pgq_resume(pg_catalog.text)',
    'pgq_why(pg_catalog.int8)',
    'pgq_why_queue(pg_catalog.text)',
    'pgq_why_span(pg_catalog.interval)',
    'pgq_why_words(pg_catalog.jsonb)',
    'pgq_why_distance(pg_catalog.text, pg_catalog.text)',
    'pgq_why_nearest(pg_catalog.text)',
    'pgq_why_sessions(pg_catalog.text[])',
    'pgq_why_table_lockers(pg_catalog.bool)',
    'pgq_why_row_lockers(pg_catalog.oid, pg_catalog.xid)',
    'pgq_why_workers(pg_catalog.text)',
    'pgq_why_running(pg_catalog.int8, pg_catalog.text, pg_catalog.int8, pg_catalog.timestamptz)',
    'pgq_why_pace(pg_catalog.text)',
    'pgq_why_speed(pg_catalog.int8, pg_catalog.float8, pg_catalog.jsonb)',
    'pgq_why_waiting(pg_catalog.text, pg_catalog.text, pg_catalog.text)',
    'pgq_why_ended(pg_catalog.int8, pg_catalog.timestamptz, pg_catalog.bool, pg_catalog.text)']::pg_catalog.text[]
  LOOP
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SET search_path = pg_catalog, %s, pg_temp', signature, jobs_schema);
  END LOOP;
END
$pgq$;
