-- Makes jobs due now, as pgq_retry does, and notifies sleeping workers. Returns how many rows it has locked, and how many
-- of these it has changed; jobs that other sessions have locked, or that run, are left out.
--
-- $1 int8[]: ids of the jobs
-- $2 bool: whether to keep the number of attempts and what is left of the retry waits
WITH locked AS MATERIALIZED (
  SELECT id, attempt > 0 AND NOT $2::bool AS anew FROM pgq_jobs
  WHERE id = ANY ($1::int8[]) AND octet_length(queue_name) > 0
    AND NOT (ran_at IS NULL AND lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())
  FOR UPDATE SKIP LOCKED),
anew AS (
  UPDATE pgq_jobs AS job SET
    run_after = CASE WHEN job.ran_at IS NULL THEN least(job.run_after, statement_timestamp()) ELSE statement_timestamp() END,
    retry_waits = DEFAULT, attempt = 0,
    ran_at = NULL, error = NULL, cancelled = false, lease = NULL, started_at = NULL, deaths = 0
  FROM locked WHERE job.id = locked.id AND locked.anew RETURNING job.queue_name),
kept AS (
  UPDATE pgq_jobs AS job SET
    run_after = CASE WHEN job.ran_at IS NULL THEN least(job.run_after, statement_timestamp()) ELSE statement_timestamp() END,
    ran_at = NULL,
    error = CASE WHEN $2::bool AND NOT (job.cancelled AND job.error = 'cancelled') THEN job.error END,
    cancelled = false, lease = NULL, started_at = NULL, deaths = 0
  FROM locked WHERE job.id = locked.id AND NOT locked.anew RETURNING job.queue_name),
buckets AS (
  SELECT DISTINCT pg_catalog.hashtext(queue_name) & 255 AS bucket
  FROM (SELECT queue_name FROM anew UNION ALL SELECT queue_name FROM kept) AS changed)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM anew) + (SELECT count(*) FROM kept),
  (SELECT pg_catalog.count(pg_catalog.pg_notify('pgq_bell', pg_catalog.concat('pgq_jobs'::regclass::oid, ':', bucket))::text)
    FROM buckets)
