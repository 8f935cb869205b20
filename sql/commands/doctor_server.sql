-- Checks the version of the server, its role and its connections. Each statement of doctor returns findings: the name of
-- the check, its level (ok, warn or bad), what was found, and the command that repairs it.
SELECT 'server', CASE WHEN pg_catalog.current_setting('server_version_num')::int4 < 130000 THEN 'bad' ELSE 'ok' END,
  pg_catalog.concat('Postgres ', pg_catalog.current_setting('server_version')),
  CASE WHEN pg_catalog.current_setting('server_version_num')::int4 < 130000
    THEN 'upgrade the server: pgq-lua needs Postgres 13 or newer' END
UNION ALL
SELECT 'server', 'bad', 'this server is a standby: workers cannot write to it',
  'connect to the primary server, as with target_session_attrs=read-write'
WHERE pg_catalog.pg_is_in_recovery()
UNION ALL
SELECT 'server', CASE WHEN used * 10::int8 >= most * 9::int8 THEN 'warn' ELSE 'ok' END,
  pg_catalog.concat(used, ' of ', most, ' connections are used'),
  CASE WHEN used * 10::int8 >= most * 9::int8 THEN 'use fewer executors or a pooler, or ALTER SYSTEM SET max_connections' END
FROM (
  SELECT pg_catalog.sum(numbackends)::int8 AS used, pg_catalog.current_setting('max_connections')::int8 AS most
  FROM pg_catalog.pg_stat_database) AS connections
UNION ALL
SELECT 'server', CASE WHEN usage > 0.5::float8 THEN 'bad' ELSE 'warn' END,
  pg_catalog.concat('the queue of notifications is ', pg_catalog.round((usage * 100::float8)::numeric, 0), ' % full'),
  'end the session that has been listening in an open transaction for longest'
FROM (SELECT pg_catalog.pg_notification_queue_usage() AS usage) AS notifications
WHERE usage > 0.1::float8
