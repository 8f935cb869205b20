-- Returns the errors of jobs that have failed, from one queue or from all: the latest $4 of them, in equal shares of the
-- queues, the latest first. Only the first 300 characters of an error are returned. The last row, whose id is null, says whether there are
-- more.
--
-- $1 text: name of the queue, or null for all
-- $2 timestamptz: jobs that ended from this time on, or null
-- $3 timestamptz: jobs that ended before this time, or null
-- $4 int8: the greatest number of errors
WITH RECURSIVE every (name, number) AS (
  (SELECT queue_name, 1 FROM pgq_jobs WHERE ran_at IS NOT NULL AND $1::text IS NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT (
    SELECT queue_name FROM pgq_jobs WHERE ran_at IS NOT NULL AND queue_name > every.name ORDER BY queue_name LIMIT 1),
    number + 1
  FROM every WHERE name IS NOT NULL AND number < 10000),
queue AS MATERIALIZED (
  SELECT name FROM every WHERE name IS NOT NULL UNION ALL SELECT $1::text WHERE $1::text IS NOT NULL),
share AS (
  SELECT greatest($4::int8 / greatest(pg_catalog.count(*), 1::int8), 1::int8) AS most FROM queue),
failed AS MATERIALIZED (
  SELECT queue.name, job.id, job.ran_at, job.error
  FROM queue
  CROSS JOIN LATERAL (
    SELECT id, ran_at, pg_catalog.substr(error, 1, 300) AS error FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NOT NULL
      AND CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END = 'f'::"char"
      AND ($2::timestamptz IS NULL OR ran_at >= $2::timestamptz) AND ($3::timestamptz IS NULL OR ran_at < $3::timestamptz)
    ORDER BY ran_at DESC LIMIT (SELECT most FROM share)) AS job)
SELECT id, ran_at, error, NULL::bool AS is_cut FROM failed
UNION ALL
SELECT NULL, NULL, NULL, EXISTS (
  SELECT FROM failed GROUP BY name HAVING pg_catalog.count(*) >= (SELECT most FROM share))
ORDER BY ran_at DESC NULLS LAST, id DESC NULLS LAST
