-- Checks for locks of pgq_jobs that keep workers from claiming. A session that waits for such a lock has the same effect,
-- since claims wait behind it. The columns are those of doctor_server.sql.
WITH lockers AS (
  SELECT lock.granted, activity.pid, pg_catalog.concat('session ', activity.pid, ' (', pg_catalog.concat_ws(', ',
      nullif(activity.application_name, ''::text), 'user ' || activity.usename::text, activity.state), ')') AS who,
    CASE lock.mode WHEN 'ShareLock'::text THEN 'SHARE' WHEN 'ShareRowExclusiveLock'::text THEN 'SHARE ROW EXCLUSIVE'
      WHEN 'ExclusiveLock'::text THEN 'EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END AS mode
  FROM pg_catalog.pg_locks AS lock
  JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
  WHERE lock.locktype = 'relation'::text AND lock.relation = pg_catalog.to_regclass('pgq_jobs')::oid
    AND lock.mode = ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::text[])
    AND lock.pid <> pg_catalog.pg_backend_pid())
SELECT 'locks', 'warn', pg_catalog.concat(who, CASE WHEN granted THEN ' has' ELSE ' waits for' END, ' the lock ', mode,
    ' of pgq_jobs, so that no worker can claim'), pg_catalog.concat('SELECT pg_terminate_backend(', pid, ')')
FROM lockers
UNION ALL
SELECT 'locks', 'ok', 'no session has locked pgq_jobs against workers', NULL
WHERE NOT EXISTS (SELECT FROM lockers)
