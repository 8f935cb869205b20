-- Ends the leases of a dead worker, and deletes its row when none is left. The token of a lease has the lower 30 bits of
-- the worker's id in its upper half. The jobs are due again: the death costs them no attempt, but it is counted, and a job
-- that has seen a death before is due after 1, 2, 4 ... seconds; see deaths.h. A job that had seen four deaths ran alone, so
-- it keeps its lease, which ends now: the worker that claims it fails the attempt. Rows that another session has locked
-- are ended by the next call. Sleeping workers of the jobs' queues are woken.
--
-- The columns of the row are those of enum dead_worker_column in statements.h. There is none, and nothing is changed, if
-- the worker has taken its lock again, or another worker ends its leases.
--
-- $1 int8: id of the dead worker's row
-- $2 int8: for how many milliseconds its lock must have been free
WITH dead AS MATERIALIZED (
  SELECT id, host, pid, (id & 1073741823::int8) << 32 AS first_token
  FROM pgq_workers
  WHERE id = $1
    AND (missing_since <= now() - $2::float8 * interval '1 ms'
      OR last_seen_at < now() - CASE WHEN pooled THEN interval '1 min' ELSE interval '1 hour' END)
    AND (pooled OR last_seen_at < now() - interval '1 hour'
      OR CASE WHEN pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4)
        THEN pg_advisory_unlock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4) ELSE false END)
  FOR UPDATE SKIP LOCKED),
leased AS MATERIALIZED (
  SELECT job.id, job.lease
  FROM dead
  JOIN pgq_jobs AS job ON job.lease >= dead.first_token AND job.lease < dead.first_token + 4294967296
  WHERE job.ran_at IS NULL
  FOR UPDATE OF job SKIP LOCKED),
ended AS (
  UPDATE pgq_jobs AS job
  SET lease = CASE WHEN job.deaths >= 4 THEN job.lease END,
    deaths = CASE WHEN job.deaths >= 4 THEN job.deaths ELSE job.deaths + 1 END,
    attempt = CASE WHEN job.deaths >= 4 THEN job.attempt ELSE greatest(job.attempt - 1, 0) END,
    started_at = CASE WHEN job.deaths >= 4 THEN job.started_at END,
    run_after = CASE WHEN job.deaths BETWEEN 1 AND 3
      THEN statement_timestamp() + power(2::float8, (job.deaths::int4 - 1)::float8) * interval '1 second'
      ELSE statement_timestamp() END
  FROM leased
  WHERE job.id = leased.id AND job.lease = leased.lease
  RETURNING job.queue_name),
rung AS MATERIALIZED (
  SELECT pg_notify('pgq_bell', pg_catalog.concat('pgq_jobs'::regclass::oid, ':', bucket))
  FROM (SELECT DISTINCT hashtext(queue_name) & 255 AS bucket FROM ended) AS buckets),
deleted AS (
  DELETE FROM pgq_workers AS worker
  USING dead
  WHERE worker.id = dead.id
    AND (SELECT count(*) FROM leased) = (
      SELECT count(*) FROM pgq_jobs AS job
      WHERE job.lease >= dead.first_token AND job.lease < dead.first_token + 4294967296 AND job.ran_at IS NULL)
  RETURNING worker.id)
SELECT host, pid, (SELECT count(*) FROM ended), EXISTS (SELECT FROM deleted), (SELECT count(*) FROM rung)
FROM dead
