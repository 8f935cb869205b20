-- Says for what a session waits, and for whom: those in front of it that wait for nobody themselves. No row means that it
-- waits for no lock. The columns: what is locked, as the end of a sentence; by whom, in the words of pgq_why; what to do;
-- and a text that is another one when others are in the way. A worker's hold is known as in pgq_why_row_lockers: it ends
-- by itself.
--
-- $1 int4: process number of the session that waits
WITH RECURSIVE wanted AS (
  SELECT locktype, relation, transactionid, mode FROM pg_catalog.pg_locks
  WHERE pid = $1::int4 AND NOT granted ORDER BY locktype = 'tuple'::text LIMIT 1),
chain (pid, distance) AS (
  SELECT blocker.pid, 1
  FROM wanted CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids($1::int4)) AS blocker (pid)
  UNION
  SELECT blocker.pid, chain.distance + 1
  FROM chain CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(chain.pid)) AS blocker (pid)
  WHERE chain.pid <> 0 AND chain.distance < 8),
roots AS (
  SELECT DISTINCT pid FROM chain
  WHERE pid <> 0 AND (distance >= 8 OR pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) = 0)),
prepared AS (
  SELECT holder.virtualtransaction
  FROM pg_catalog.pg_locks AS holder
  JOIN pg_catalog.pg_locks AS waiting ON NOT waiting.granted
    AND (holder.locktype = 'transactionid'::text AND holder.transactionid = waiting.transactionid
      OR holder.locktype = 'relation'::text AND holder.relation = waiting.relation AND holder.database = waiting.database)
  WHERE holder.pid IS NULL AND holder.granted
    AND EXISTS (SELECT FROM chain WHERE chain.pid = 0)
    AND (waiting.pid = $1::int4 OR waiting.pid IN (SELECT pid FROM chain))),
sessions AS (
  SELECT element.value || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
      'lock', (
        SELECT pg_catalog.max(CASE lock.mode WHEN 'AccessExclusiveLock'::text THEN 'ACCESS EXCLUSIVE'
          WHEN 'ExclusiveLock'::text THEN 'EXCLUSIVE' WHEN 'ShareRowExclusiveLock'::text THEN 'SHARE ROW EXCLUSIVE'
          WHEN 'ShareLock'::text THEN 'SHARE' END)
        FROM pg_catalog.pg_locks AS lock JOIN wanted ON wanted.locktype = 'relation'::text
        WHERE lock.pid = (element.value ->> 'pid'::text)::int4 AND lock.locktype = 'relation'::text
          AND lock.relation = wanted.relation AND lock.granted),
      'hold', nullif((SELECT wanted.locktype <> 'relation'::text FROM wanted)
        AND (element.value ->> 'application'::text = 'pgq-lua'::text OR EXISTS (
          SELECT FROM pg_catalog.pg_locks AS lock
          JOIN pg_catalog.pg_stat_activity AS control ON control.pid = lock.pid
          WHERE lock.locktype = 'advisory'::text AND lock.granted
            AND lock.classid = pg_catalog.to_regclass('pgq_workers')::oid
            AND control.application_name = element.value ->> 'application'::text
            AND control.usename::text = element.value ->> 'user'::text))
        AND coalesce((element.value ->> 'since'::text)::timestamptz > clock_timestamp() - interval '65 s', true), false)))
    AS value, element.number
  FROM pg_catalog.jsonb_array_elements(pgq_why_sessions(ARRAY(
      SELECT lock.virtualtransaction FROM pg_catalog.pg_locks AS lock JOIN roots ON roots.pid = lock.pid
      UNION SELECT virtualtransaction FROM prepared))) WITH ORDINALITY AS element (value, number)),
repairs AS (
  SELECT pg_catalog.string_agg(CASE
      WHEN value ? 'pid'::text THEN pg_catalog.concat('SELECT pg_terminate_backend(', value ->> 'pid'::text, ')')
      ELSE pg_catalog.concat('ROLLBACK PREPARED ', pg_catalog.quote_literal(value ->> 'prepared'::text)) END, ', '
      ORDER BY number) AS statements
  FROM (SELECT value, number FROM sessions WHERE NOT value ? 'hold'::text ORDER BY number LIMIT 3) AS others)
SELECT CASE WHEN wanted.locktype = 'relation'::text
    THEN 'the table ' || (SELECT relname::text FROM pg_catalog.pg_class WHERE oid = wanted.relation)
    WHEN wanted.locktype = ANY ('{transactionid,tuple}'::text[]) THEN 'the row'
    ELSE 'a lock of the type ' || wanted.locktype END,
  pgq_why_words((SELECT pg_catalog.jsonb_agg(value ORDER BY number) FROM sessions)),
  CASE WHEN repairs.statements IS NOT NULL THEN 'to end that: ' || repairs.statements
    ELSE 'a worker that has just claimed the job: it ends the job, or leases it when its hold limit is over'::text END,
  (SELECT pg_catalog.string_agg(coalesce(value ->> 'pid'::text, value ->> 'prepared'::text), ' ' ORDER BY number) FROM sessions)
FROM wanted CROSS JOIN repairs
WHERE EXISTS (SELECT FROM sessions)
