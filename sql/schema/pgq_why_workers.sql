-- Returns why no worker claims from a queue: a code and the other columns of pgq_why. If workers do claim, the code is
-- null, and "who" has these workers.
--
-- A worker reports to its row in pgq_workers every ten seconds, and has an advisory lock on the row's number while its
-- control session lives; a worker behind a pooler has no lock. An executor counts as busy only if it had been busy for a
-- second when its worker reported that: an executor with short jobs is busy at most moments, too. A queue is not starved
-- while its own jobs run and end: then its jobs are behind each other. A worker cannot run its script when that has an
-- error, and no executor is left that has loaded it before. `pgq-lua queues` asks this function for many queues: planning
-- the statement for each would take longer than running it.
CREATE OR REPLACE FUNCTION pgq_why_workers(queue_name text)
RETURNS TABLE (code text, sentence text, until timestamptz, who jsonb) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan AS $pgq$
DECLARE
  quoted text := pg_catalog.quote_literal(pg_catalog.left(pgq_why_workers.queue_name, 100));
  paused record;
  seen record;
BEGIN
  SELECT queue.* INTO paused FROM pgq_queues AS queue
    WHERE queue.queue_name = pgq_why_workers.queue_name AND queue.paused_until > statement_timestamp();
  IF paused.queue_name IS NOT NULL THEN
    RETURN QUERY SELECT 'paused'::text, pg_catalog.concat('The queue ', quoted, ' is paused',
        ' by ' || paused.paused_by, ' (' || pgq_why_span(statement_timestamp() - paused.paused_at) || ' ago)',
        CASE WHEN paused.paused_until = 'infinity'::timestamptz THEN ', until it is resumed'::text
          ELSE ', for another ' || pgq_why_span(paused.paused_until - statement_timestamp()) END,
        ': ' || paused.pause_reason, '.'),
      paused.paused_until::timestamptz, pg_catalog.jsonb_build_array(pg_catalog.jsonb_strip_nulls(
        pg_catalog.jsonb_build_object('kind', 'role', 'user', paused.paused_by, 'since', paused.paused_at,
          'reason', paused.pause_reason)));
    RETURN;
  END IF;

  WITH worker AS (
    SELECT listed.id, pg_catalog.concat(listed.host, ':', listed.pid) AS name, listed.queues, listed.last_seen_at,
      listed.status ->> 'script_error'::text AS script_error, listed.status ->> 'stage'::text AS stage,
      coalesce((listed.status #>> '{options,concurrency}'::text[])::int8, 10::int8) AS concurrency,
      coalesce((listed.status ->> 'at'::text)::timestamptz, listed.last_seen_at) AS reported_at,
      CASE WHEN pg_catalog.jsonb_typeof(listed.status -> 'executors'::text) = 'array'::text
        THEN listed.status -> 'executors'::text ELSE '[]'::jsonb END AS executors,
      listed.status -> 'queues'::text -> pgq_why_workers.queue_name AS here,
      listed.last_seen_at < statement_timestamp() - interval '1 min' AS silent,
      NOT listed.pooled AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS lock
        WHERE lock.locktype = 'advisory'::text AND lock.granted AND lock.classid = 'pgq_workers'::regclass::oid
          AND lock.objid::int8 = listed.id & 2147483647::int8) AS gone
    FROM pgq_workers AS listed),
  judged AS (
    SELECT worker.*, pgq_why_workers.queue_name = ANY (worker.queues) AS registers,
      worker.script_error IS NOT NULL AND NOT EXISTS (
          SELECT FROM pg_catalog.jsonb_array_elements(worker.executors) AS executor (value)
          WHERE executor.value ->> 'version'::text IS NOT NULL)
        AND NOT worker.silent AND NOT worker.gone AS broken,
      CASE WHEN worker.silent OR worker.gone THEN
          'is gone: it reported last ' || pgq_why_span(statement_timestamp() - worker.last_seen_at) || ' ago'
        WHEN worker.stage = 'quiet'::text THEN 'is quiet, and claims nothing'::text
        WHEN worker.stage = 'stopping'::text THEN 'is stopping'::text END AS absence,
      (worker.here ->> 'backs_off_until'::text)::timestamptz AS backs_off_until
    FROM worker),
  executor AS (
    SELECT judged.id, judged.name, one.number,
      pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('kind', 'worker', 'worker', judged.name, 'worker_id',
        judged.id,
        'executor', one.value -> 'pid'::text, 'job', one.value -> 'job'::text, 'queue', one.value -> 'queue'::text,
        'since', coalesce(one.value ->> 'job_since'::text, one.value ->> 'busy_since'::text))) AS entry,
      one.value -> 'busy'::text = 'true'::jsonb AND judged.reported_at
          - least((one.value ->> 'busy_since'::text)::timestamptz, (one.value ->> 'job_since'::text)::timestamptz)
          >= interval '1 s' AS busy,
      (one.value ->> 'in_flight'::text)::int8 >= judged.concurrency AS full
    FROM judged
    CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(judged.executors) WITH ORDINALITY AS one (value, number)
    WHERE judged.registers AND NOT judged.broken AND judged.absence IS NULL)
  SELECT pg_catalog.count(*) FILTER (WHERE serves.ok) AS serving,
    pg_catalog.count(*) AS known,
    pg_catalog.bool_and(serves.worker_backs_off) FILTER (WHERE serves.ok) AS backs_off,
    pg_catalog.min(serves.backs_off_until) FILTER (WHERE serves.ok) AS backs_off_until,
    (pg_catalog.array_agg(serves.here ->> 'backoff_error'::text ORDER BY serves.backs_off_until) FILTER (WHERE serves.ok))[1]
      AS backoff_error,
    pg_catalog.jsonb_agg(serves.entry ORDER BY serves.id) FILTER (WHERE serves.ok) AS workers,
    pg_catalog.jsonb_agg(serves.entry ORDER BY serves.id) FILTER (WHERE serves.broken) AS broken,
    (pg_catalog.array_agg(serves.script_error ORDER BY serves.id) FILTER (WHERE serves.broken))[1] AS script_error,
    pg_catalog.jsonb_agg(serves.entry ORDER BY serves.id) FILTER (WHERE serves.registers
      AND serves.absence IS NOT NULL) AS absent,
    pg_catalog.string_agg('worker ' || serves.name || ' ' || serves.absence, '; ' ORDER BY serves.last_seen_at DESC)
      FILTER (WHERE serves.registers AND serves.absence IS NOT NULL AND serves.number <= 3::int8) AS absences,
    (SELECT coalesce(pg_catalog.bool_and(coalesce(executor.busy, false) OR coalesce(executor.full, false)), false)
        AND NOT (coalesce(pg_catalog.bool_or(executor.entry ->> 'queue'::text = pgq_why_workers.queue_name), false)
          AND EXISTS (
            SELECT FROM pgq_stats AS stats
            WHERE stats.queue_name = pgq_why_workers.queue_name
              AND stats.minute > statement_timestamp() - interval '2 min'))
      FROM executor) AS starved,
    (SELECT pg_catalog.count(*) FROM executor) AS executors,
    (SELECT coalesce(pg_catalog.bool_or(executor.busy), false) FROM executor) AS any_busy,
    (SELECT pg_catalog.jsonb_agg(executor.entry ORDER BY executor.id, executor.number) FROM executor) AS executor_entries
  INTO seen
  FROM (
    SELECT judged.*, judged.registers AND NOT judged.broken AND judged.absence IS NULL AS ok,
      coalesce(judged.backs_off_until > statement_timestamp(), false) AS worker_backs_off,
      pg_catalog.row_number() OVER (PARTITION BY judged.registers ORDER BY judged.last_seen_at DESC) AS number,
      pg_catalog.jsonb_build_object('kind', 'worker', 'worker', judged.name, 'worker_id', judged.id) AS entry
    FROM judged
    WHERE judged.registers) AS serves;

  IF seen.serving = 0::int8 AND seen.broken IS NOT NULL THEN
    RETURN QUERY SELECT 'workers_cannot_run'::text, pg_catalog.concat('No worker serves the queue ', quoted, ': ',
      pgq_why_words(seen.broken), ' cannot run its script: ', pg_catalog.left(seen.script_error::text, 1000)),
        NULL::timestamptz,
      seen.broken::jsonb;
  ELSIF seen.serving = 0::int8 AND seen.absent IS NOT NULL THEN
    RETURN QUERY SELECT 'no_worker'::text, pg_catalog.concat('No worker serves the queue ', quoted, ': ',
      seen.absences, '.'),
      NULL::timestamptz, seen.absent::jsonb;
  ELSIF seen.serving = 0::int8 THEN
    RETURN QUERY SELECT 'no_worker'::text, pg_catalog.concat('No worker serves the queue ', quoted, coalesce(
          '. The nearest name that a worker registers is ' || pg_catalog.quote_literal(name.nearest),
          CASE WHEN EXISTS (SELECT FROM pgq_workers) THEN '; the workers register other queues'::text
            ELSE '; no worker is running'::text END), '.'),
        NULL::timestamptz, CASE WHEN name.nearest IS NULL THEN '[]'::jsonb ELSE pg_catalog.jsonb_build_array(
          pg_catalog.jsonb_build_object('kind', 'queue', 'queue', name.nearest)) END
      FROM (SELECT pgq_why_nearest(pgq_why_workers.queue_name) AS nearest) AS name;
  ELSIF seen.backs_off THEN
    RETURN QUERY SELECT 'backs_off'::text, pg_catalog.concat('The queue ', quoted, ' backs off for another ',
      pgq_why_span(seen.backs_off_until - statement_timestamp()), ': ', pg_catalog.left(seen.backoff_error::text, 1000)),
      seen.backs_off_until::timestamptz, seen.workers::jsonb;
  ELSIF seen.starved THEN
    RETURN QUERY SELECT 'starved'::text, pg_catalog.concat(
      CASE WHEN seen.executors = 1::int8 THEN 'The only executor that serves the queue '::text
        ELSE pg_catalog.concat('All ', seen.executors, ' executors that serve the queue ') END, quoted,
      CASE WHEN seen.executors = 1::int8 THEN ' is'::text ELSE ' are'::text END,
      CASE WHEN seen.any_busy THEN ' busy: '::text ELSE ' full, with jobs that wait: '::text END,
      pgq_why_words(seen.executor_entries), '.'), NULL::timestamptz, seen.executor_entries::jsonb;
  ELSE
    RETURN QUERY SELECT NULL::text, NULL::text, NULL::timestamptz, seen.workers::jsonb;
  END IF;
END
$pgq$;
COMMENT ON FUNCTION pgq_why_workers(text) IS 'Why no worker claims from a queue, for pgq_why.';
