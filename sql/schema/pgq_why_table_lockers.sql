-- Returns the transactions whose locks on pgq_jobs keep workers from claiming, and null if there are none. A session
-- that waits for such a lock has the same effect, since claims wait behind it; then the list also has the sessions for
-- which it waits. With `reading` only locks that keep everybody from reading the table, too.
CREATE OR REPLACE FUNCTION pgq_why_table_lockers(reading boolean) RETURNS jsonb LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  jobs oid := 'pgq_jobs'::regclass::oid;
  lockers jsonb;
BEGIN
  SELECT pg_catalog.jsonb_agg(element.value || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
      'lock', CASE lock.mode WHEN 'ShareLock'::text THEN 'SHARE' WHEN 'ShareRowExclusiveLock'::text THEN 'SHARE ROW EXCLUSIVE'
        WHEN 'ExclusiveLock'::text THEN 'EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END,
      'waits', nullif(NOT lock.granted, false)))
    ORDER BY lock.granted DESC, element.number)
  INTO lockers
  FROM pg_catalog.pg_locks AS lock
  CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(pgq_why_sessions(ARRAY[lock.virtualtransaction]))
    WITH ORDINALITY AS element (value, number)
  WHERE lock.locktype = 'relation'::text AND lock.relation = jobs
    AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND (lock.mode = 'AccessExclusiveLock'::text
      OR NOT reading AND lock.mode = ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock}'::text[]))
    AND lock.pid IS DISTINCT FROM pg_catalog.pg_backend_pid();
  IF lockers IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.jsonb_array_elements(lockers) AS element (value) WHERE NOT element.value ? 'waits'::text)
  THEN
    lockers := lockers || pgq_why_sessions(ARRAY(
      SELECT DISTINCT lock.virtualtransaction
      FROM pg_catalog.jsonb_array_elements(lockers) AS element (value)
      CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids((element.value ->> 'pid'::text)::int4)) AS blocker (pid)
      JOIN pg_catalog.pg_locks AS lock ON lock.pid = blocker.pid
        AND lock.locktype = 'relation'::text AND lock.relation = jobs AND lock.granted));
  END IF;
  RETURN lockers;
END
$pgq$;
COMMENT ON FUNCTION pgq_why_table_lockers(boolean) IS 'Who has locked pgq_jobs so that no worker can claim, for pgq_why.';
