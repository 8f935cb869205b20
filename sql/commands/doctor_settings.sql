-- Checks the settings of the server without which queues suffer. The columns are those of doctor_server.sql.
WITH wanted AS (
  SELECT name, good, level, harm, pg_catalog.current_setting(name) AS value
  FROM (VALUES
    ('autovacuum'::text, 'on'::text, 'bad'::text, 'the rows of finished jobs stay in the table'::text),
    ('track_counts', 'on', 'bad', 'autovacuum does not know where dead rows are'),
    ('fsync', 'on', 'warn', 'a crash of the machine can destroy the database'),
    ('full_page_writes', 'on', 'warn', 'a crash of the machine can destroy pages')) AS settings (name, good, level, harm))
SELECT 'settings', level, pg_catalog.concat(name, ' is ', value, ': ', harm),
  pg_catalog.concat('ALTER SYSTEM SET ', name, ' = ', good, ', then SELECT pg_reload_conf()')
FROM wanted WHERE value <> good
UNION ALL
SELECT 'settings', 'ok', 'autovacuum, track_counts, fsync and full_page_writes are on', NULL
WHERE NOT EXISTS (SELECT FROM wanted WHERE value <> good)
