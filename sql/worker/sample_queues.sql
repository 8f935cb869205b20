-- Samples queues for the metrics of a worker: how many jobs are due, and for how long the oldest has been due. This reads
-- the beginning of the queue in the index pgq_jobs_fetch, and no more rows of a queue than the limit. The columns are
-- those of enum sample_queues_column in statements.h.
--
-- $1 text[]: names of the queues
-- $2 int8: the greatest number of jobs to count in each
SELECT queue.position, due.jobs,
  CASE WHEN due.jobs > 0::int8
    THEN ceil(extract(epoch FROM now() - greatest(due.oldest, '1970-01-01 00:00:00+00'::timestamptz))::float8
      * 1000::float8)::int8 END
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS queue (name, position)
CROSS JOIN LATERAL (
  SELECT pg_catalog.count(*) AS jobs, pg_catalog.min(job.run_after) AS oldest
  FROM (
    SELECT run_after FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()
    ORDER BY run_after, id LIMIT $2::int8) AS job) AS due
