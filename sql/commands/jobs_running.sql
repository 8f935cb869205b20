-- Returns jobs that run, those that began first before the others, from one queue or from all. The columns are those of
-- enum column in jobs.c. The index pgq_jobs_lease has nothing but leased jobs, of which at most $9 are read. The last
-- row, whose id is null, says whether there may be more, and how many were read. The upper half of a lease's token is the id of the worker, of
-- which 30 bits fit.
--
-- $1 text: name of the queue, or null for all
-- $2 text: the state: running
-- $3 timestamptz: jobs whose attempt began from this time on, or null
-- $4 timestamptz: jobs whose attempt began before this time, or null
-- $5 text: pattern of the error, for LIKE, or null
-- $6 text: a key of meta, or null
-- $7 text: the value of this key
-- $8 int8: the greatest number of jobs
-- $9 int8: the greatest number of jobs to search
-- $10 int8: how many of the first jobs are left out
WITH searched AS MATERIALIZED (
  SELECT id, queue_name, created_at, run_after, started_at, attempt, pg_catalog.cardinality(retry_waits) AS waits, deaths,
    lease, error, meta, octet_length(data) AS bytes
  FROM pgq_jobs WHERE lease IS NOT NULL LIMIT $9::int8),
found AS (
  SELECT * FROM searched
  WHERE $2::text = 'running'::text AND started_at IS NOT NULL AND run_after > now()
    AND ($1::text IS NULL OR queue_name = $1::text)
    AND ($3::timestamptz IS NULL OR started_at >= $3::timestamptz)
    AND ($4::timestamptz IS NULL OR started_at < $4::timestamptz)
    AND ($5::text IS NULL OR error ~~ $5::text) AND ($6::text IS NULL OR meta ->> $6::text = $7::text)
  ORDER BY started_at, id LIMIT $8::int8 OFFSET $10::int8)
SELECT found.id, queue_name AS name, found.started_at AS at, created_at, run_after, found.started_at, NULL::timestamptz AS ran_at,
  attempt, waits, deaths, coalesce(worker.id, lease >> 32) AS worker_id,
  CASE WHEN worker.id IS NOT NULL THEN pg_catalog.concat(worker.host, ':', worker.pid) END AS worker,
  error, meta, bytes, NULL::bool AS is_cut, NULL::int8 AS searched
FROM found LEFT JOIN pgq_workers AS worker ON worker.id & 1073741823::int8 = found.lease >> 32
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  pg_catalog.count(*) >= $9::int8, pg_catalog.count(*)
FROM searched
ORDER BY is_cut NULLS FIRST, at, id
