-- Says what has become of jobs that a bulk command has chosen, and whose rows it could not lock: how many of them run; how
-- many it could change now, which other sessions have locked, and the least id of these; and how many others there are,
-- which have changed or are gone. A statement of its own, since it sees what was committed meanwhile.
--
-- $1 int8[]: ids of the jobs
-- $2 text[]: the states in which the command can change a job
WITH job AS (
  SELECT id, CASE
      WHEN ran_at IS NOT NULL THEN
        CASE WHEN cancelled THEN 'cancelled'::text WHEN error IS NULL THEN 'completed'::text ELSE 'failed'::text END
      WHEN lease IS NOT NULL AND started_at IS NOT NULL AND run_after > clock_timestamp() THEN 'running'::text
      WHEN run_after <= clock_timestamp() THEN 'due'::text ELSE 'later'::text END AS state
  FROM pgq_jobs WHERE id = ANY ($1::int8[])),
seen AS (
  SELECT count(*) FILTER (WHERE state = 'running'::text) AS running,
    count(*) FILTER (WHERE state = ANY ($2::text[])) AS locked, min(id) FILTER (WHERE state = ANY ($2::text[])) AS first_locked
  FROM job)
SELECT running, locked, first_locked, pg_catalog.cardinality($1::int8[]) - running - locked FROM seen
