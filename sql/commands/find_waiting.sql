-- Reads some jobs of a queue that have not ended, in the order in which they fall due, and returns those that are selected:
-- their id, when they fall due, their state (due, later or running), and their number among the jobs that were read, from
-- 1. The last job that was read is returned in any case, with a null instead of its state if it is not selected: the next
-- call begins behind it.
--
-- $1 text: name of the queue
-- $2 text[]: states to select; running jobs that meet the other conditions are returned as well
-- $3 text: pattern of the error for LIKE, or null
-- $4 timestamptz: the earliest time of a job, or null
-- $5 timestamptz: the end of these times, or null
-- $6 text: a key in meta, or null
-- $7 text: the value of that key
-- $8 timestamptz: when the command began; later times are to come
-- $9 timestamptz: jobs behind this place in the order are read: its run_after
-- $10 int8: the id of this place
-- $11 timestamptz: jobs that fall due after this time are not read
-- $12 int8: how many jobs to read
WITH read AS (
  SELECT id, run_after, error, meta, started_at, pg_catalog.row_number() OVER (ORDER BY run_after, id) AS position,
    lease IS NOT NULL AND started_at IS NOT NULL AND run_after > $8::timestamptz AS runs
  FROM pgq_jobs
  WHERE queue_name = $1::text AND ran_at IS NULL AND (run_after, id) > ($9::timestamptz, $10::int8)
    AND run_after <= $11::timestamptz
  ORDER BY run_after, id LIMIT $12::int8),
judged AS MATERIALIZED (
  SELECT id, run_after, position,
    CASE WHEN runs THEN 'running'::text WHEN run_after <= $8::timestamptz THEN 'due'::text ELSE 'later'::text END AS state,
    ($3::text IS NULL OR error LIKE $3::text)
      AND ($4::timestamptz IS NULL OR CASE WHEN runs THEN started_at ELSE run_after END >= $4::timestamptz)
      AND ($5::timestamptz IS NULL OR CASE WHEN runs THEN started_at ELSE run_after END < $5::timestamptz)
      AND ($6::text IS NULL OR (meta ->> $6::text) = $7::text) AS fits
  FROM read)
SELECT id, run_after::text, CASE WHEN fits AND (state = 'running'::text OR state = ANY ($2::text[])) THEN state END,
  position
FROM judged
WHERE (fits AND (state = 'running'::text OR state = ANY ($2::text[]))) OR position = (SELECT pg_catalog.count(*) FROM judged)
ORDER BY position
