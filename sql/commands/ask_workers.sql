-- Asks something of workers, and notifies them. Returns a row for each: id, host:pid, and whether it was seen within half
-- a minute. Writes one row to pgq_audit if there is any. What was asked before, and was not taken yet, stays asked: the
-- worker does one after the other.
--
-- $1 text: the worker, as its id or as host:pid; null: all workers
-- $2 text: quiet, resume, stop or reload
WITH chosen AS (
  SELECT id, pg_catalog.concat(host, ':', pid) AS name FROM pgq_workers
  WHERE $1::text IS NULL OR id::text = $1::text OR pg_catalog.concat(host, ':', pid) = $1::text),
asked AS (
  UPDATE pgq_workers AS worker
  SET request = CASE WHEN pg_catalog."right"(worker.request, pg_catalog.length($2::text)) = $2::text THEN worker.request
    ELSE pg_catalog.concat_ws(' ', worker.request, $2::text) END
  FROM chosen WHERE worker.id = chosen.id
  RETURNING worker.id, chosen.name, worker.last_seen_at > now() - interval '30 s' AS alive),
told AS (
  SELECT pg_catalog.count(*) AS workers,
    pg_catalog.count(pg_catalog.pg_notify('pgq_control', pg_catalog.concat('pgq_jobs'::regclass::oid, ':worker:', id))) AS notified
  FROM asked),
noted AS (
  INSERT INTO pgq_audit (verb, selection, count)
  SELECT CASE WHEN $2::text = 'resume' THEN 'quiet off' ELSE $2::text END, coalesce($1::text, 'all'), workers
  FROM told WHERE workers > 0 AND notified > 0)
SELECT id, name, alive FROM asked ORDER BY id
