-- Deletes jobs of one queue that ended long ago, the oldest first: completed ones, and failed and cancelled ones. Skips
-- rows that others have locked. Returns the name of the queue, which is null when there is no further one, and how many
-- jobs were deleted.
--
-- $1 text: name of a queue
-- $2 bool: true for that queue; false for the next one that has jobs that have ended
-- $3 int8: for how many milliseconds completed jobs are kept; 0: for ever
-- $4 int8: for how many milliseconds failed and cancelled jobs are kept; 0: for ever
-- $5 int8: how many jobs to delete at most
WITH queue AS (
  SELECT $1::text AS name WHERE $2::bool
  UNION ALL
  SELECT name FROM (
    SELECT queue_name::text AS name FROM pgq_jobs
    WHERE NOT $2::bool AND ran_at IS NOT NULL AND queue_name > $1::text ORDER BY queue_name LIMIT 1) AS next),
kind AS (
  SELECT 'd'::"char" AS code, $3::int8 AS ms WHERE $3::int8 > 0::int8
  UNION ALL SELECT 'f'::"char", $4::int8 WHERE $4::int8 > 0::int8
  UNION ALL SELECT 'c'::"char", $4::int8 WHERE $4::int8 > 0::int8),
old AS (
  SELECT ended.id, ended.place
  FROM queue CROSS JOIN kind CROSS JOIN LATERAL (
    SELECT id, tableoid AS place FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NOT NULL
      AND (CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END) = kind.code
      AND ran_at < statement_timestamp() - kind.ms::float8 * interval '1 millisecond'
    ORDER BY ran_at LIMIT $5::int8 FOR UPDATE SKIP LOCKED) AS ended
  LIMIT $5::int8),
gone AS (
  DELETE FROM pgq_jobs USING old WHERE pgq_jobs.id = old.id AND pgq_jobs.tableoid = old.place RETURNING pgq_jobs.id)
SELECT (SELECT name FROM queue), (SELECT count(*) FROM gone)
