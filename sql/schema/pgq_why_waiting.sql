-- Returns the columns of pgq_why_queue for a queue without due jobs: which of its jobs run, and when the next one falls
-- due. The problem of its workers is that of pgq_why_workers, if they have one.
CREATE OR REPLACE FUNCTION pgq_why_waiting(queue_name text, problem text, explanation text)
RETURNS TABLE (code text, sentence text, until timestamptz, who jsonb) LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  quoted text := pg_catalog.quote_literal(pg_catalog.left(pgq_why_waiting.queue_name, 100));
  next timestamptz;
  running jsonb;
  started timestamptz;
  answer text;
BEGIN
  SELECT job.run_after INTO next FROM pgq_jobs AS job
    WHERE job.queue_name = pgq_why_waiting.queue_name AND job.ran_at IS NULL AND job.run_after > statement_timestamp()
      AND (job.lease IS NULL OR job.started_at IS NULL)
    ORDER BY job.run_after, job.id LIMIT 1;
  SELECT pg_catalog.jsonb_agg(leased.entry ORDER BY leased.started_at) INTO running
    FROM (
      SELECT pgq_why_running(job.id, job.queue_name, job.lease, job.started_at) -> 0 AS entry, job.started_at
      FROM (SELECT every.* FROM pgq_jobs AS every WHERE every.lease IS NOT NULL ORDER BY every.lease LIMIT 10000) AS job
      WHERE job.queue_name = pgq_why_waiting.queue_name AND job.started_at IS NOT NULL AND job.run_after > statement_timestamp()
      ORDER BY job.started_at LIMIT 10) AS leased;
  answer := CASE WHEN running IS NOT NULL THEN 'runs' WHEN next IS NOT NULL THEN 'later'
    WHEN problem = 'no_worker'::text AND NOT EXISTS (
      SELECT FROM pgq_workers AS worker WHERE pgq_why_waiting.queue_name = ANY (worker.queues))
      AND NOT EXISTS (
        SELECT FROM pgq_jobs AS job WHERE job.queue_name = pgq_why_waiting.queue_name AND job.ran_at IS NOT NULL)
    THEN 'unknown'
    ELSE 'idle' END;
  RETURN QUERY SELECT answer, pg_catalog.concat_ws(' ', pg_catalog.concat('No job of the queue ', quoted, ' is due.'),
      'The ' || pgq_why_words(running) || '.',
      CASE WHEN next = 'infinity'::timestamptz THEN 'The next one has the run_after infinity.'::text
        ELSE 'The next one is due in ' || pgq_why_span(next - statement_timestamp()) || '.' END,
      CASE WHEN running IS NULL AND next IS NULL THEN 'None waits.'::text END, explanation),
    CASE WHEN running IS NULL THEN next END, coalesce(running, '[]'::jsonb);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_waiting(text, text, text) IS 'What a queue without due jobs waits for, for pgq_why_queue.';
