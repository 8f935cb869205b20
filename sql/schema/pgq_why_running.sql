-- Returns which worker runs a leased job, as a list of one element for pgq_why. The upper half of a lease's token has the
-- lower 30 bits of the worker's id. The executor is known if the worker has reported that it is busy with this job, or if
-- the worker has only one. A worker that has lost its session or sends no heartbeats is silent.
CREATE OR REPLACE FUNCTION pgq_why_running(id bigint, queue_name text, lease bigint, started_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  worker record;
BEGIN
  SELECT listed.id, pg_catalog.concat(listed.host, ':', listed.pid) AS name,
    CASE WHEN listed.missing_since IS NOT NULL OR listed.last_seen_at < statement_timestamp() - interval '30 s'
      THEN coalesce(listed.missing_since, listed.last_seen_at) END AS silent_since,
    (SELECT CASE WHEN pg_catalog.count(*) = 1::int8 THEN pg_catalog.min(executor.value ->> 'pid'::text)
        ELSE pg_catalog.min(executor.value ->> 'pid'::text) FILTER (
          WHERE executor.value ->> 'job'::text = pgq_why_running.id::text) END
      FROM pg_catalog.jsonb_array_elements(CASE WHEN pg_catalog.jsonb_typeof(listed.status -> 'executors'::text) = 'array'::text
        THEN listed.status -> 'executors'::text END) AS executor (value))::int8 AS executor
    INTO worker
    FROM pgq_workers AS listed
    WHERE listed.id & 1073741823::int8 = pgq_why_running.lease >> 32
    ORDER BY listed.id DESC LIMIT 1;
  RETURN pg_catalog.jsonb_build_array(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('kind', 'worker',
    'worker', coalesce(worker.name, 'of the past'::text), 'worker_id', worker.id, 'executor', worker.executor,
    'job', pgq_why_running.id, 'queue', pgq_why_running.queue_name, 'since', pgq_why_running.started_at, 'silent_since', worker.silent_since)));
END
$pgq$;
COMMENT ON FUNCTION pgq_why_running(bigint, text, bigint, timestamptz) IS 'Which worker runs a leased job, for pgq_why.';
