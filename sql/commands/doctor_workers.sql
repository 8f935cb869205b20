-- Checks the workers: whether they live, their versions, scripts, problems and clocks. The columns are those of
-- doctor_server.sql.
WITH worker AS (
  SELECT listed.id, pg_catalog.concat('worker ', listed.host, ':', listed.pid) AS name, listed.host, listed.version,
    listed.last_seen_at,
    listed.status ->> 'script'::text AS script, listed.status ->> 'script_version'::text AS script_version,
    listed.status ->> 'script_error'::text AS script_error, listed.status ->> 'error'::text AS error,
    extract(epoch FROM (listed.status ->> 'at'::text)::timestamptz - listed.last_seen_at)::float8 AS skew,
    listed.last_seen_at < now() - interval '1 min' OR NOT listed.pooled AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_locks AS lock
      WHERE lock.locktype = 'advisory'::text AND lock.granted AND lock.classid = pg_catalog.to_regclass('pgq_workers')::oid
        AND lock.objid::int8 = listed.id & 2147483647::int8) AS gone
  FROM pgq_workers AS listed),
alive AS (SELECT * FROM worker WHERE NOT gone)
SELECT 'workers', CASE WHEN pg_catalog.count(*) = 0::int8 THEN 'warn' ELSE 'ok' END,
  CASE WHEN pg_catalog.count(*) = 0::int8 THEN 'no worker is running'
    ELSE pg_catalog.concat(pg_catalog.count(*), ' running, version ', pg_catalog.string_agg(DISTINCT version, ', ')) END,
  CASE WHEN pg_catalog.count(*) = 0::int8 THEN 'start one: pgq-lua worker.lua' END
FROM alive
UNION ALL
SELECT * FROM (
  SELECT 'workers'::text, 'warn'::text, pg_catalog.concat(name, ' is gone: it reported last ',
      pg_catalog.date_trunc('second'::text, now() - last_seen_at), ' ago. Another worker deletes its row'),
    pg_catalog.concat('if no other worker runs: DELETE FROM pgq_workers WHERE id = ', id)
  FROM worker WHERE gone ORDER BY last_seen_at DESC LIMIT 5) AS gone
UNION ALL
SELECT 'workers', 'warn', pg_catalog.concat('workers run different versions of pgq-lua: ',
  pg_catalog.string_agg(counted.words, ', ' ORDER BY version)),
  'restart the workers of the older versions'
FROM (SELECT version, pg_catalog.concat(version, ' (', pg_catalog.count(*), ')') AS words
  FROM alive GROUP BY version) AS counted
HAVING pg_catalog.count(*) > 1::int8
UNION ALL
SELECT 'workers', 'warn', pg_catalog.concat('workers run different contents of ', script, ': ',
    pg_catalog.string_agg(counted.words, ', ' ORDER BY script_version)), 'reload or restart those that have not the newest'
FROM (
  SELECT script, script_version, pg_catalog.concat(script_version, ' (', pg_catalog.count(*), ')') AS words
  FROM alive WHERE script_version IS NOT NULL GROUP BY script, script_version) AS counted
GROUP BY script HAVING pg_catalog.count(*) > 1::int8
UNION ALL
SELECT * FROM (
  SELECT 'workers'::text, 'bad'::text, pg_catalog.concat(name, ' cannot load its script: ',
    pg_catalog.left(script_error, 300)),
    pg_catalog.concat('correct ', script)
  FROM alive WHERE script_error IS NOT NULL ORDER BY id LIMIT 5) AS broken
UNION ALL
SELECT * FROM (
  SELECT 'workers'::text, 'warn'::text, pg_catalog.concat(name, ' has a problem with its connections: ',
    pg_catalog.left(error, 300)), NULL::text
  FROM alive WHERE error IS NOT NULL ORDER BY id LIMIT 5) AS disconnected
UNION ALL
SELECT * FROM (
  SELECT 'clocks'::text, CASE WHEN abs(skew) > 60::float8 THEN 'bad'::text ELSE 'warn'::text END,
    pg_catalog.concat('the clock of ', name, ' differs from that of the database by ',
      pg_catalog.round(skew::numeric, 1), ' s'),
    pg_catalog.concat('synchronise the clock of ', host, ', as by chronyd')
  FROM alive WHERE abs(skew) > 2::float8 ORDER BY abs(skew) DESC LIMIT 5) AS skewed
