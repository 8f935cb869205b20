-- Reads some jobs of a queue that have ended in one way, the latest first, and returns those that are selected: their id,
-- when they ended, true, and their number among the jobs that were read, from 1. The last job that was read is returned
-- in any case, with false if it is not selected: the next call begins behind it.
--
-- $1 text: name of the queue
-- $2 text: how they ended: c cancelled, d completed, f failed
-- $3 text: pattern of the error for LIKE, or null
-- $4 timestamptz: the earliest time at which a job ended, or null
-- $5 text: a key in meta, or null
-- $6 text: the value of that key
-- $7 timestamptz: jobs behind this place in the order are read: its ran_at
-- $8 int8: the id of this place
-- $9 int8: how many jobs to read
WITH read AS (
  SELECT id, ran_at, error, meta, pg_catalog.row_number() OVER (ORDER BY ran_at DESC, id) AS position
  FROM pgq_jobs
  WHERE queue_name = $1::text AND ran_at IS NOT NULL
    AND CASE WHEN cancelled THEN 'c'::"char" WHEN error IS NULL THEN 'd'::"char" ELSE 'f'::"char" END = $2::text::"char"
    AND ran_at <= $7::timestamptz AND (ran_at < $7::timestamptz OR id > $8::int8)
    AND ran_at >= coalesce($4::timestamptz, '-infinity')
  ORDER BY ran_at DESC, id LIMIT $9::int8),
judged AS MATERIALIZED (
  SELECT id, ran_at, position,
    coalesce(($3::text IS NULL OR error LIKE $3::text) AND ($5::text IS NULL OR (meta ->> $5::text) = $6::text), false) AS fits
  FROM read)
SELECT id, ran_at::text, fits, position FROM judged
WHERE fits OR position = (SELECT pg_catalog.count(*) FROM judged)
ORDER BY position
