-- Makes jobs due now, as pgq_retry does, and notifies sleeping workers. Returns how many rows it has locked, and how many
-- of these it has changed; then the ids of the others, or null: they run, are gone, or other sessions have locked them;
-- then how many of the locked ones do not fit the checks of the table, which are those of pgq_jobs.sql, and the least id
-- of these. Waits that do not fit are replaced by the default ones, unless they are to be kept.
--
-- $1 int8[]: ids of the jobs
-- $2 bool: whether to keep the number of attempts and what is left of the retry waits
WITH judged AS MATERIALIZED (
  SELECT id, attempt, octet_length(queue_name) BETWEEN 1 AND 1048576 AS has_queue,
    attempt >= 0 AND (pg_catalog.pg_column_size(retry_waits) <= 100 OR pg_catalog.cardinality(retry_waits) <= 1000
      AND octet_length(pg_catalog.array_to_string(retry_waits, '')) <= 32768) AS fits
  FROM pgq_jobs
  WHERE id = ANY ($1::int8[])
    AND NOT (ran_at IS NULL AND lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())
  FOR UPDATE SKIP LOCKED),
locked AS (
  SELECT id, NOT $2::bool AND (attempt <> 0 OR NOT fits) AS anew FROM judged WHERE has_queue AND (fits OR NOT $2::bool)),
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
  FROM (SELECT queue_name FROM anew UNION ALL SELECT queue_name FROM kept) AS changed),
others AS (SELECT pg_catalog.unnest($1::int8[]) AS id EXCEPT SELECT id FROM judged),
unfit AS (SELECT id FROM judged EXCEPT SELECT id FROM locked)
SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM anew) + (SELECT count(*) FROM kept),
  (SELECT pg_catalog.array_agg(id) FROM others), (SELECT count(*) FROM unfit), (SELECT min(id) FROM unfit),
  (SELECT pg_catalog.count(pg_catalog.pg_notify('pgq_bell', pg_catalog.concat('pgq_jobs'::regclass::oid, ':', bucket))::text)
    FROM buckets)
