-- Says what becomes of the jobs of a queue, in one row with the columns of pgq_why. The codes are those of pgq_why that a
-- queue can have, and idle: no job of the queue waits. For a queue with due jobs, the answer is about the first of them:
--   locked, paused, backs_off, no_worker, workers_cannot_run, starved
--   behind  workers claim jobs of the queue: how many are due, and an estimate
--   runs    no job is due, and some run
--   later   no job is due, and the next one falls due then
-- A queue that nothing knows is unknown.
CREATE OR REPLACE FUNCTION pgq_why_queue(queue_name text)
RETURNS TABLE (code text, sentence text, until timestamptz, who jsonb)
LANGUAGE plpgsql STABLE
SET timezone = 'UTC' SET lock_timeout = '1s' SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $pgq$
DECLARE
  quoted text := pg_catalog.quote_literal(pg_catalog.left(pgq_why_queue.queue_name, 100));
  lockers jsonb := pgq_why_table_lockers(false);
  first record;
  answer record;
  due int8;
  pace float8;
BEGIN
  IF pgq_why_queue.queue_name IS NULL THEN
    RAISE EXCEPTION 'pgq_why_queue: the name is null' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF lockers IS NULL THEN
    BEGIN
      SELECT job.id, job.run_after, job.xmax, job.tableoid AS relation, job.lease, job.started_at INTO first
        FROM pgq_jobs AS job WHERE job.queue_name = pgq_why_queue.queue_name AND job.ran_at IS NULL
        ORDER BY job.run_after, job.id LIMIT 1;
    EXCEPTION WHEN lock_not_available THEN
      lockers := coalesce(pgq_why_table_lockers(true), '[]'::jsonb);
    END;
  END IF;
  IF lockers IS NOT NULL THEN
    RETURN QUERY SELECT 'locked'::text, pg_catalog.concat('The table is locked: ', pgq_why_words(lockers), '.'),
      NULL::timestamptz, lockers;
    RETURN;
  END IF;
  SELECT * INTO answer FROM pgq_why_workers(pgq_why_queue.queue_name);
  IF answer.code = 'paused'::text OR answer.code IS NOT NULL AND first.run_after <= statement_timestamp() THEN
    RETURN QUERY SELECT answer.code::text, answer.sentence::text, answer.until::timestamptz, answer.who::jsonb;
    RETURN;
  END IF;
  IF first.id IS NULL OR first.run_after > statement_timestamp() THEN
    RETURN QUERY SELECT * FROM pgq_why_waiting(pgq_why_queue.queue_name, answer.code, answer.sentence);
    RETURN;
  END IF;
  lockers := pgq_why_row_lockers(first.relation, first.xmax);
  IF EXISTS (
    SELECT FROM pg_catalog.jsonb_array_elements(lockers) AS locker (session) WHERE NOT locker.session ? 'hold'::text)
  THEN
    RETURN QUERY SELECT 'locked'::text, pg_catalog.concat('The first due job of the queue, ', first.id, ', is locked: ',
      pgq_why_words(lockers), '. Workers pass over it.'), NULL::timestamptz, lockers;
    RETURN;
  END IF;
  due := (
    SELECT pg_catalog.count(*) FROM (
      SELECT FROM pgq_jobs AS job
      WHERE job.queue_name = pgq_why_queue.queue_name AND job.ran_at IS NULL AND job.run_after <= statement_timestamp()
      ORDER BY job.run_after, job.id LIMIT 10001) AS earlier);
  pace := pgq_why_pace(pgq_why_queue.queue_name);
  RETURN QUERY SELECT 'behind'::text, pg_catalog.concat('The queue ', quoted, ' has ',
      CASE WHEN due = 1::int8 THEN '1 due job'::text WHEN due > 10000::int8 THEN 'more than 10000 due jobs'
        ELSE due::text || ' due jobs' END,
      ', the oldest for ', pgq_why_span(statement_timestamp() - first.run_after), '. ', pgq_why_speed(due, pace, answer.who)),
    CASE WHEN due <= 10000::int8 THEN statement_timestamp() + due::float8 / pace * interval '1 min' END, answer.who::jsonb;
END
$pgq$;
COMMENT ON FUNCTION pgq_why_queue(text) IS 'Says what becomes of the jobs of a queue: a code, a sentence, until when that holds, and who is in the way.';
