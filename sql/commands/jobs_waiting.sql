-- Returns jobs that wait, in the order in which they fall due, from one queue or from all. The columns are those of enum
-- column in jobs.c. Each queue is one range scan of pgq_jobs_fetch. From all queues, first the earliest job of each is
-- read: the first $8 + $10 of these queues have the jobs that are asked for. Where errors or meta are searched, every
-- queue is read, and at most $9 jobs in all; of these, only what is needed to judge them is kept. The last row, whose id is null,
-- says whether others would belong into the list that were not searched; how many jobs were; and as its time, up to when
-- all were.
--
-- $1 text: name of the queue, or null for all
-- $2 text: the state: due or later
-- $3 timestamptz: jobs that are due from this time on, or null
-- $4 timestamptz: jobs that are due before this time, or null
-- $5 text: pattern of the error, for LIKE, or null
-- $6 text: a key of meta, or null
-- $7 text: the value of this key
-- $8 int8: the greatest number of jobs
-- $9 int8: the greatest number of jobs to search
-- $10 int8: how many of the first jobs are left out
WITH RECURSIVE every (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NULL AND $1::text IS NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NULL AND queue_name > every.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM every WHERE name IS NOT NULL AND number < 10000),
queue AS (
  SELECT name FROM every WHERE name IS NOT NULL UNION ALL SELECT $1::text WHERE $1::text IS NOT NULL),
chosen AS MATERIALIZED (
  SELECT queue.name, CASE WHEN $5::text IS NULL AND $6::text IS NULL THEN $8::int8 + $10::int8
    ELSE greatest($9::int8 / pg_catalog.count(*) OVER (), 1::int8) END AS most
  FROM queue
  CROSS JOIN LATERAL (
    SELECT run_after, id FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NULL
      AND ($2::text = 'later'::text OR run_after <= now()) AND ($2::text = 'due'::text OR run_after > now())
      AND ($3::timestamptz IS NULL OR run_after >= $3::timestamptz)
      AND ($4::timestamptz IS NULL OR run_after < $4::timestamptz)
      AND NOT (lease IS NOT NULL AND started_at IS NOT NULL AND run_after > now())
    ORDER BY run_after, id LIMIT 1) AS earliest
  ORDER BY earliest.run_after, earliest.id
  LIMIT CASE WHEN $5::text IS NULL AND $6::text IS NULL THEN $8::int8 + $10::int8 END),
searched AS MATERIALIZED (
  SELECT chosen.name, chosen.most, job.*
  FROM chosen
  CROSS JOIN LATERAL (
    SELECT id, run_after, ($5::text IS NULL OR error ~~ $5::text) AND ($6::text IS NULL OR meta ->> $6::text = $7::text) AS fits
    FROM pgq_jobs
    WHERE queue_name = chosen.name AND ran_at IS NULL
      AND ($2::text = 'later'::text OR run_after <= now()) AND ($2::text = 'due'::text OR run_after > now())
      AND ($3::timestamptz IS NULL OR run_after >= $3::timestamptz)
      AND ($4::timestamptz IS NULL OR run_after < $4::timestamptz)
      AND NOT (lease IS NOT NULL AND started_at IS NOT NULL AND run_after > now())
    ORDER BY run_after, id LIMIT chosen.most) AS job),
found AS MATERIALIZED (
  SELECT id, run_after FROM searched WHERE fits ORDER BY run_after, id LIMIT $8::int8 OFFSET $10::int8),
cut AS (
  SELECT pg_catalog.min(latest) AS latest
  FROM (
    SELECT pg_catalog.max(run_after) AS latest FROM searched GROUP BY name, most HAVING pg_catalog.count(*) >= most) AS queue)
SELECT job.id, job.queue_name AS name, job.run_after AS at, job.created_at, job.run_after, NULL::timestamptz AS started_at,
  NULL::timestamptz AS ran_at, job.attempt, pg_catalog.cardinality(job.retry_waits) AS waits, job.deaths,
  NULL::int8 AS worker_id, NULL::text AS worker, job.error, job.meta, octet_length(job.data) AS bytes, NULL::bool AS is_cut,
  NULL::int8 AS searched
FROM found JOIN pgq_jobs AS job ON job.id = found.id
UNION ALL
SELECT NULL, NULL, cut.latest, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  coalesce(cut.latest < coalesce((SELECT pg_catalog.max(run_after) FROM found HAVING pg_catalog.count(*) >= $8::int8), 'infinity'), false),
  (SELECT pg_catalog.count(*) FROM searched)
FROM cut
ORDER BY is_cut NULLS FIRST, at, id
