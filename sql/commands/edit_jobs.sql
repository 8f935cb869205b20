-- Changes jobs that do not run, and notifies sleeping workers of their queue. Returns how many jobs these are, and how many
-- of them it has changed. A null leaves a column as it is; but a due job that is moved to another queue is due from now
-- on, since the workers of that queue do not look for jobs that fell due long ago.
--
-- $1 int8[]: ids of the jobs
-- $2 timestamptz: earliest time of the next attempt
-- $3 interval: how long from now this time is, instead of $2
-- $4 text[]: retry waits
-- $5 text: name of the queue
-- $6 bytea: the data
WITH wanted AS MATERIALIZED (
  SELECT id FROM pgq_jobs
  WHERE id = ANY ($1::int8[])
    AND NOT (ran_at IS NULL AND lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp())),
changed AS (
  UPDATE pgq_jobs AS job SET run_after = coalesce($2::timestamptz, statement_timestamp() + $3::interval,
      CASE WHEN queue_name <> $5::text THEN greatest(run_after, statement_timestamp()) ELSE run_after END),
    retry_waits = coalesce($4::text[], retry_waits), queue_name = coalesce($5::text, queue_name),
    data = coalesce($6::bytea, data)
  FROM wanted WHERE job.id = wanted.id RETURNING job.queue_name),
buckets AS (
  SELECT DISTINCT pg_catalog.hashtext(queue_name) & 255 AS bucket FROM changed)
SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM changed),
  (SELECT pg_catalog.count(pg_catalog.pg_notify('pgq_bell', pg_catalog.concat('pgq_jobs'::regclass::oid, ':', bucket))::text)
    FROM buckets)
