-- Returns the transactions that have locked or changed a row and have not ended, and null if there are none. The row's
-- xmax names the transaction, or a group of them: a multixact. A savepoint that was released leaves a number that
-- pg_locks does not show; then the list has the sessions that may be the one, and each has "maybe".
--
-- Each element of a worker's hold has "hold". It is known by the application name that workers use, or by the user and
-- application of the sessions in which workers hold their own locks. A hold is never older than a minute: another
-- transaction of such a session is one of a handler.
CREATE OR REPLACE FUNCTION pgq_why_row_lockers(relation oid, locker xid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  suspects text[] := ARRAY[locker::text];
  ids text[];
  maybe boolean;
  latest int8;
  distance int8;
BEGIN
  IF locker::text = '0'::text THEN
    RETURN NULL;
  END IF;
  BEGIN
    suspects := pg_catalog.array_cat(suspects, ARRAY(
      SELECT member.xid::text FROM pg_catalog.pg_get_multixact_members(locker) AS member));
  EXCEPTION WHEN OTHERS THEN
    NULL; -- the number is not that of a multixact
  END;
  ids := ARRAY(
    SELECT lock.virtualtransaction
    FROM pg_catalog.pg_locks AS lock
    WHERE lock.locktype = 'transactionid'::text AND lock.granted AND lock.mode = 'ExclusiveLock'::text
      AND lock.transactionid::text = ANY (suspects)
      AND EXISTS (
        SELECT FROM pg_catalog.pg_locks AS used
        WHERE used.virtualtransaction = lock.virtualtransaction AND used.locktype = 'relation'::text
          AND used.relation = pgq_why_row_lockers.relation AND used.granted));
  maybe := pg_catalog.cardinality(ids) = 0;
  IF maybe THEN
    -- xmax has no epoch: it is the number that is nearest to the latest ones.
    latest := pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8;
    distance := locker::text::int8 - (latest & 4294967295);
    distance := distance + CASE WHEN distance > 2147483648 THEN -4294967296
      WHEN distance < -2147483648 THEN 4294967296 ELSE 0::int8 END;
    BEGIN
      IF latest + distance > 0::int8
        AND pg_catalog.pg_xact_status((latest + distance)::text::xid8) = 'in progress'::text
      THEN
        ids := ARRAY(
          SELECT lock.virtualtransaction
          FROM pg_catalog.pg_locks AS lock
          WHERE lock.locktype = 'relation'::text AND lock.granted AND lock.relation = pgq_why_row_lockers.relation
            AND lock.mode = ANY ('{RowShareLock,RowExclusiveLock}'::text[]));
      END IF;
    EXCEPTION WHEN invalid_parameter_value THEN
      NULL; -- there is no transaction with that number yet: it is that of a multixact
    END;
  END IF;
  RETURN (
    SELECT pg_catalog.jsonb_agg(element.value || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'maybe', nullif(maybe, false), 'hold', nullif(
          (element.value ->> 'application'::text = 'pgq-lua'::text OR EXISTS (
            SELECT FROM pg_catalog.pg_locks AS lock
            JOIN pg_catalog.pg_stat_activity AS control ON control.pid = lock.pid
            WHERE lock.locktype = 'advisory'::text AND lock.granted AND lock.classid = 'pgq_workers'::regclass::oid
              AND control.application_name = element.value ->> 'application'::text
              AND control.usename::text = element.value ->> 'user'::text))
          AND coalesce((element.value ->> 'since'::text)::timestamptz > statement_timestamp() - interval '65 s', true),
          false)))
      ORDER BY element.number)
    FROM pg_catalog.jsonb_array_elements(pgq_why_sessions(ids)) WITH ORDINALITY AS element (value, number)
    WHERE element.value ->> 'pid'::text IS DISTINCT FROM pg_catalog.pg_backend_pid()::text);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_row_lockers(oid, xid) IS 'Which transactions have locked a job''s row, for pgq_why.';
