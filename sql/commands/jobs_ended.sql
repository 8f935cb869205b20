-- Returns jobs that have ended in one way, the latest first, from one queue or from all. The columns are those of enum
-- column in jobs.c. Each queue is one range scan of pgq_jobs_ended. From all queues, first the latest job of each is
-- read: the first $8 + $10 of these queues have the jobs that are asked for. Where errors or meta are searched, every
-- queue is read, and at most $9 jobs in all; of these, only what is needed to judge them is kept. The last row, whose id is null,
-- says whether others would belong into the list that were not searched; how many jobs were; and as its time, from when
-- on all were.
--
-- $1 text: name of the queue, or null for all
-- $2 text: the state: failed, completed or cancelled
-- $3 timestamptz: jobs that ended from this time on, or null
-- $4 timestamptz: jobs that ended before this time, or null
-- $5 text: pattern of the error, for LIKE, or null
-- $6 text: a key of meta, or null
-- $7 text: the value of this key
-- $8 int8: the greatest number of jobs
-- $9 int8: the greatest number of jobs to search
-- $10 int8: how many of the first jobs are left out
WITH RECURSIVE every (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NOT NULL AND $1::text IS NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NOT NULL AND queue_name > every.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM every WHERE name IS NOT NULL AND number < 10000),
queue AS (
  SELECT name FROM every WHERE name IS NOT NULL UNION ALL SELECT $1::text WHERE $1::text IS NOT NULL),
chosen AS MATERIALIZED (
  SELECT queue.name, CASE WHEN $5::text IS NULL AND $6::text IS NULL THEN $8::int8 + $10::int8
    ELSE greatest($9::int8 / pg_catalog.count(*) OVER (), 1::int8) END AS most
  FROM queue
  CROSS JOIN LATERAL (
    SELECT ran_at FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NOT NULL
      AND CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END
        = CASE $2::text WHEN 'cancelled'::text THEN 'c'::"char" WHEN 'completed'::text THEN 'd'::"char" ELSE 'f'::"char" END
      AND ($3::timestamptz IS NULL OR ran_at >= $3::timestamptz) AND ($4::timestamptz IS NULL OR ran_at < $4::timestamptz)
    ORDER BY ran_at DESC LIMIT 1) AS latest
  ORDER BY latest.ran_at DESC
  LIMIT CASE WHEN $5::text IS NULL AND $6::text IS NULL THEN $8::int8 + $10::int8 END),
searched AS MATERIALIZED (
  SELECT chosen.name, chosen.most, job.*
  FROM chosen
  CROSS JOIN LATERAL (
    SELECT id, ran_at, ($5::text IS NULL OR error ~~ $5::text) AND ($6::text IS NULL OR meta ->> $6::text = $7::text) AS fits
    FROM pgq_jobs
    WHERE queue_name = chosen.name AND ran_at IS NOT NULL
      AND CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END
        = CASE $2::text WHEN 'cancelled'::text THEN 'c'::"char" WHEN 'completed'::text THEN 'd'::"char" ELSE 'f'::"char" END
      AND ($3::timestamptz IS NULL OR ran_at >= $3::timestamptz) AND ($4::timestamptz IS NULL OR ran_at < $4::timestamptz)
    ORDER BY ran_at DESC LIMIT chosen.most) AS job),
found AS MATERIALIZED (
  SELECT id, ran_at FROM searched WHERE fits ORDER BY ran_at DESC, id DESC LIMIT $8::int8 OFFSET $10::int8),
cut AS (
  SELECT pg_catalog.max(earliest) AS earliest
  FROM (
    SELECT pg_catalog.min(ran_at) AS earliest FROM searched GROUP BY name, most HAVING pg_catalog.count(*) >= most) AS queue)
SELECT job.id, job.queue_name AS name, job.ran_at AS at, job.created_at, job.run_after, NULL::timestamptz AS started_at,
  job.ran_at, job.attempt, pg_catalog.cardinality(job.retry_waits) AS waits, job.deaths,
  NULL::int8 AS worker_id, NULL::text AS worker, job.error, job.meta, octet_length(job.data) AS bytes, NULL::bool AS is_cut,
  NULL::int8 AS searched
FROM found JOIN pgq_jobs AS job ON job.id = found.id
UNION ALL
SELECT NULL, NULL, cut.earliest + interval '1 microsecond', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, coalesce(cut.earliest > coalesce((SELECT pg_catalog.min(ran_at) FROM found HAVING pg_catalog.count(*) >= $8::int8), '-infinity'), false),
  (SELECT pg_catalog.count(*) FROM searched)
FROM cut
ORDER BY is_cut NULLS FIRST, at DESC, id DESC
