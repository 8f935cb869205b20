-- Returns the columns of pgq_why for a job that has ended, or that is not in the table: completed jobs are deleted, and
-- with --discard-failed failed ones, too. Then the last of its attempts in pgq_attempts tells what became of it.
CREATE OR REPLACE FUNCTION pgq_why_ended(id bigint, ran_at timestamptz, cancelled boolean, error text)
RETURNS TABLE (code text, sentence text, until timestamptz, who jsonb) LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  last record;
  at timestamptz := ran_at;
  result text := CASE WHEN ran_at IS NULL THEN NULL
    WHEN cancelled THEN 'cancelled' WHEN error IS NULL THEN 'completed' ELSE 'failed' END;
  is_deleted boolean := ran_at IS NULL;
  problem text := error;
BEGIN
  SELECT attempt.* INTO last FROM pgq_attempts AS attempt
    WHERE attempt.job_id = pgq_why_ended.id ORDER BY attempt.id DESC LIMIT 1;
  IF is_deleted AND last.outcome = ANY ('{completed,failed,discarded}'::text[]) THEN
    result := CASE last.outcome WHEN 'completed'::text THEN 'completed' ELSE 'failed' END;
    at := last.ended_at;
    problem := last.error;
  END IF;
  IF result IS NULL THEN
    RETURN QUERY SELECT 'unknown'::text, pg_catalog.concat('There is no job ', pgq_why_ended.id,
      ': it was never enqueued, or it was deleted, as completed jobs are.',
      ' Its last known attempt, number ' || last.attempt::text || ', was ' || last.outcome || ' '
        || pgq_why_span(statement_timestamp() - last.ended_at) || ' ago.'), NULL::timestamptz, '[]'::jsonb;
    RETURN;
  END IF;
  RETURN QUERY SELECT result, pg_catalog.concat(
      CASE result WHEN 'cancelled'::text THEN 'The job was cancelled '::text WHEN 'failed'::text THEN 'The job failed for good '
        ELSE 'The job was completed ' END,
      pgq_why_span(statement_timestamp() - at), ' ago',
      CASE WHEN result <> 'cancelled'::text THEN
        pg_catalog.concat(', at attempt ' || last.attempt::text, ', by worker ' || last.worker) END,
      CASE WHEN is_deleted THEN ', and was deleted'::text END,
      CASE WHEN result = 'failed'::text THEN ': ' || problem
        WHEN result = 'cancelled'::text THEN '. Its last error: ' || nullif(problem, 'cancelled'::text) ELSE '.' END),
    NULL::timestamptz,
    CASE WHEN last.worker IS NULL OR result = 'cancelled'::text THEN '[]'::jsonb
      ELSE pg_catalog.jsonb_build_array(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('kind', 'worker',
        'worker', last.worker, 'worker_id', last.worker_id, 'since', at))) END;
END
$pgq$;
COMMENT ON FUNCTION pgq_why_ended(bigint, timestamptz, boolean, text) IS 'What became of a job that has ended, for pgq_why.';
