-- Checks for transactions that keep vacuum from removing dead rows of this database: of sessions, prepared ones, and those
-- of standbys that report them. Postgres shows the age of other roles' transactions to members of pg_read_all_stats only;
-- the distance of transaction ids is shown to all. The columns are those of doctor_server.sql.
WITH holders AS (
  SELECT activity.xact_start AS since, greatest(pg_catalog.age(activity.backend_xmin),
    pg_catalog.age(activity.backend_xid)) AS ids,
    pg_catalog.concat('session ', activity.pid, ' (', pg_catalog.concat_ws(', ', nullif(activity.application_name, ''::text),
      'user ' || activity.usename::text, activity.state), ')') AS who,
    pg_catalog.concat('SELECT pg_terminate_backend(', activity.pid, ')') AS repair,
    activity.query = '<insufficient privilege>'::text AS hidden
  FROM pg_catalog.pg_stat_activity AS activity
  WHERE activity.pid <> pg_catalog.pg_backend_pid()
    AND coalesce(activity.backend_type <> ALL ('{walsender,autovacuum worker}'::text[]), true)
    AND activity.datname = pg_catalog.current_database()
    AND (activity.backend_xmin IS NOT NULL OR activity.backend_xid IS NOT NULL)
  UNION ALL
  SELECT prepared, pg_catalog.age(transaction),
    pg_catalog.concat('the prepared transaction ', pg_catalog.quote_literal(gid), ' of user ', owner),
    pg_catalog.concat('ROLLBACK PREPARED ', pg_catalog.quote_literal(gid)), false
  FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
  UNION ALL
  SELECT NULL, pg_catalog.age(backend_xmin),
    pg_catalog.concat('the standby ', application_name, ', by hot_standby_feedback'),
      'end the long query on the standby', false
  FROM pg_catalog.pg_stat_replication WHERE backend_xmin IS NOT NULL),
judged AS (
  SELECT holders.*, CASE
    WHEN since < now() - interval '1 hour' OR ids > 10000000 THEN 'bad'
    WHEN since < now() - interval '5 minutes' OR ids > 200000 THEN 'warn' END AS level
  FROM holders)
SELECT 'transactions', level, pg_catalog.concat(who, ' keeps dead rows from being removed:',
    ' since ' || pg_catalog.date_trunc('second'::text, now() - since)::text || ' and', ' for ', ids, ' transactions'), repair
FROM (SELECT * FROM judged WHERE level IS NOT NULL ORDER BY ids DESC LIMIT 5) AS oldest
UNION ALL
SELECT 'transactions', 'ok', pg_catalog.concat(pg_catalog.count(*), ' transactions are open, the oldest since ',
    coalesce(pg_catalog.date_trunc('second'::text, now() - pg_catalog.min(since)), interval '0')::text), NULL
FROM judged HAVING pg_catalog.count(*) FILTER (WHERE level IS NOT NULL) = 0::int8
UNION ALL
SELECT 'transactions', 'warn', pg_catalog.concat('the age of ', pg_catalog.count(*),
  ' transactions of other roles is hidden from the role ',
    current_user), pg_catalog.concat('GRANT pg_read_all_stats TO ', pg_catalog.quote_ident(current_user::text))
FROM judged WHERE hidden HAVING pg_catalog.count(*) > 0::int8
UNION ALL
SELECT 'transactions', 'warn', pg_catalog.concat('the prepared transaction ', pg_catalog.quote_literal(prepared.gid),
  ' of user ', prepared.owner,
    ' has locked ', pg_catalog.string_agg(DISTINCT class.relname::text, ', ')),
  pg_catalog.concat('COMMIT PREPARED or ROLLBACK PREPARED ', pg_catalog.quote_literal(prepared.gid))
FROM pg_catalog.pg_prepared_xacts AS prepared
JOIN pg_catalog.pg_locks AS own ON own.locktype = 'transactionid'::text AND own.transactionid = prepared.transaction
  AND own.pid IS NULL
JOIN pg_catalog.pg_locks AS lock ON lock.virtualtransaction = own.virtualtransaction AND lock.locktype = 'relation'::text
JOIN pg_catalog.pg_class AS class ON class.oid = lock.relation
  AND class.oid = ANY (ARRAY[pg_catalog.to_regclass('pgq_jobs')::oid, pg_catalog.to_regclass('pgq_workers')::oid])
WHERE prepared.database = pg_catalog.current_database()
GROUP BY prepared.gid, prepared.owner
