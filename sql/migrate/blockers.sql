-- Returns the session that has used the table for longest, as a text for a message; null if there is none.
--
-- $1 text: name of the table
SELECT pg_catalog.format('pid %s (%s, %s, for %s s)', activity.pid, coalesce(activity.usename, '?'), activity.state,
  extract(epoch FROM clock_timestamp() - activity.xact_start)::int8)
FROM pg_locks JOIN pg_stat_activity AS activity ON activity.pid = pg_locks.pid
WHERE relation = to_regclass($1::text)::oid AND granted AND activity.pid <> pg_catalog.pg_backend_pid()
ORDER BY activity.xact_start
LIMIT 1
