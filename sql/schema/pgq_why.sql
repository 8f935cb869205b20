-- Says why a job does not run, in one row:
--   code      runs, held, locked, later, paused, backs_off, no_worker, workers_cannot_run, starved, behind, failed,
--             completed, cancelled or unknown
--   sentence  the same for a reader
--   until     until when that holds, if it is known
--   who       who is in the way: a list of objects, each with a "kind": worker, session, prepared (a prepared
--             transaction), role or queue; its times are in UTC
-- The order of the checks: what has ended, what runs, what is not yet due; then who has locked the table or the row;
-- then why workers do not claim from the queue. While somebody has locked the table against all reading, that is the
-- answer. The caller needs SELECT on pgq_jobs, pgq_workers, pgq_queues, pgq_attempts and pgq_stats.
CREATE OR REPLACE FUNCTION pgq_why(id bigint)
RETURNS TABLE (code text, sentence text, until timestamptz, who jsonb)
LANGUAGE plpgsql STABLE
SET timezone = 'UTC' SET lock_timeout = '1s' SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $pgq$
DECLARE
  job record;
  lockers jsonb; -- of the table, then of the row, if they are no workers
  holders jsonb; -- of the row, if they are workers
  table_lockers jsonb;
  answer record;
  before int8;
  pace float8;
BEGIN
  IF pgq_why.id IS NULL THEN
    RAISE EXCEPTION 'pgq_why: the id is null' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  lockers := pgq_why_table_lockers(true);
  IF lockers IS NULL THEN
    BEGIN
      SELECT found.id, found.queue_name, found.run_after, found.ran_at, found.error, found.cancelled, found.attempt,
        found.lease, found.started_at, found.xmax, found.tableoid AS relation
        INTO job FROM pgq_jobs AS found WHERE found.id = pgq_why.id;
    EXCEPTION WHEN lock_not_available THEN
      lockers := coalesce(pgq_why_table_lockers(true), '[]'::jsonb); -- somebody has locked the table meanwhile
    END;
  END IF;
  IF lockers IS NOT NULL THEN
    RETURN QUERY SELECT 'locked'::text, pg_catalog.concat('The table is locked: ', pgq_why_words(lockers), '.'),
      NULL::timestamptz, lockers;
    RETURN;
  END IF;

  IF job.id IS NULL OR job.ran_at IS NOT NULL THEN
    RETURN QUERY SELECT * FROM pgq_why_ended(pgq_why.id, job.ran_at, job.cancelled, job.error);
    RETURN;
  END IF;
  lockers := pgq_why_row_lockers(job.relation, job.xmax);
  IF NOT EXISTS (
    SELECT FROM pg_catalog.jsonb_array_elements(lockers) AS locker (session) WHERE NOT locker.session ? 'hold'::text)
  THEN
    holders := lockers;
    lockers := NULL;
  END IF;
  IF job.lease IS NOT NULL AND job.started_at IS NOT NULL AND job.run_after > statement_timestamp() THEN
    RETURN QUERY SELECT 'runs'::text, 'The ' || pgq_why_words(running.who) || CASE WHEN lockers IS NULL THEN '.' ELSE
        '. Its outcome cannot be written while its row is locked by ' || pgq_why_words(lockers) || '.' END,
      NULL::timestamptz, running.who || coalesce(lockers, '[]'::jsonb)
      FROM pgq_why_running(job.id, job.queue_name, job.lease, job.started_at) AS running (who);
    RETURN;
  END IF;
  IF job.run_after > statement_timestamp() THEN
    RETURN QUERY SELECT 'later'::text, pg_catalog.concat('The job is ',
        CASE WHEN job.run_after = 'infinity'::timestamptz THEN 'never due: its run_after is infinity'::text
          ELSE 'due in ' || pgq_why_span(job.run_after - statement_timestamp()) END, '.',
        CASE WHEN job.attempt > 0 THEN ' Attempts so far: ' || job.attempt::text || '.' END,
        ' The last error: ' || pg_catalog.left(job.error, 1000)),
      job.run_after::timestamptz, '[]'::jsonb;
    RETURN;
  END IF;

  IF lockers IS NULL THEN
    table_lockers := pgq_why_table_lockers(false);
  END IF;
  RETURN QUERY SELECT 'locked'::text, pg_catalog.concat(
      CASE WHEN lockers IS NULL THEN 'The table is locked: '::text
        WHEN lockers -> 0 ? 'maybe'::text THEN 'The job''s row is locked, by one of these: '
        ELSE 'The job''s row is locked: ' END, pgq_why_words(coalesce(lockers, table_lockers)), '.'),
    NULL::timestamptz, coalesce(lockers, table_lockers)
    WHERE lockers IS NOT NULL OR table_lockers IS NOT NULL;
  IF FOUND THEN
    RETURN;
  END IF;
  IF holders IS NOT NULL THEN
    RETURN QUERY SELECT 'held'::text, pg_catalog.concat('A worker has claimed the job, and runs it now or in a moment: ',
      pgq_why_words(holders), '.'), NULL::timestamptz, holders;
    RETURN;
  END IF;

  SELECT * INTO answer FROM pgq_why_workers(job.queue_name);
  IF answer.code IS NOT NULL THEN
    RETURN QUERY SELECT answer.code::text, answer.sentence::text, answer.until::timestamptz, answer.who::jsonb;
    RETURN;
  END IF;
  before := (
    SELECT pg_catalog.count(*) FROM (
      SELECT FROM pgq_jobs AS other
      WHERE other.queue_name = job.queue_name AND other.ran_at IS NULL AND other.run_after <= statement_timestamp()
        AND (other.run_after, other.id) < (job.run_after, job.id)
      ORDER BY other.run_after, other.id LIMIT 10001) AS earlier);
  pace := pgq_why_pace(job.queue_name);
  RETURN QUERY SELECT 'behind'::text, pg_catalog.concat('The job has been due for ',
      pgq_why_span(statement_timestamp() - job.run_after), ', and ',
      CASE WHEN before = 0::int8 THEN 'is the next of its queue'::text
        WHEN before = 1::int8 THEN '1 job is due before it'
        WHEN before > 10000::int8 THEN 'more than 10000 jobs are due before it'
        ELSE before::text || ' jobs are due before it' END,
      '. ', pgq_why_speed(before, pace, answer.who)),
    CASE WHEN before > 0::int8 AND before <= 10000::int8 THEN
      statement_timestamp() + before::float8 / pace * interval '1 min' END, answer.who::jsonb;
END
$pgq$;
COMMENT ON FUNCTION pgq_why(bigint) IS 'Says why a job does not run: a code, a sentence, until when that holds, and who is in the way.';
