-- Makes one job due now: one that has ended, or one that waits. It begins anew: with no attempts made, and, if it has made
-- attempts before, with the default retry waits, because its first ones are not kept. With keep_waits, the number of
-- attempts and what is left of the waits stay. Returns one of these:
--   retried  the job is due
--   running  a worker has leased the job; nothing is changed
--   unknown  there is no job with that id; completed jobs are deleted, and so they are unknown
-- The due time of a job that has ended is now, not that of its last attempt: busy workers do not look for jobs that fell
-- due long ago. If a worker has locked the row, the call waits for it, at most a second. Sleeping workers are notified.
CREATE OR REPLACE FUNCTION pgq_retry(id bigint, keep_waits boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql VOLATILE AS $pgq$
DECLARE
  queue text;
  runs boolean;
  anew boolean;
BEGIN
  IF pgq_retry.id IS NULL OR keep_waits IS NULL THEN
    RAISE EXCEPTION 'pgq_retry: an argument is null' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- The next statement sees the row as it was when this one had locked it, after any wait.
  SELECT job.queue_name,
      job.ran_at IS NULL AND job.lease IS NOT NULL AND job.started_at IS NOT NULL AND job.run_after > clock_timestamp(),
      job.attempt > 0 AND NOT keep_waits
    INTO queue, runs, anew FROM pgq_jobs AS job WHERE job.id = pgq_retry.id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  IF runs THEN
    RETURN 'running';
  END IF;
  IF anew THEN
    UPDATE pgq_jobs AS job SET
        run_after = CASE WHEN job.ran_at IS NULL THEN least(job.run_after, statement_timestamp()) ELSE statement_timestamp() END,
        retry_waits = DEFAULT, attempt = 0,
        ran_at = NULL, error = NULL, cancelled = false, lease = NULL, started_at = NULL, deaths = 0
      WHERE job.id = pgq_retry.id;
  ELSE
    UPDATE pgq_jobs AS job SET
        run_after = CASE WHEN job.ran_at IS NULL THEN least(job.run_after, statement_timestamp()) ELSE statement_timestamp() END,
        ran_at = NULL,
        error = CASE WHEN keep_waits AND NOT (job.cancelled AND job.error = 'cancelled') THEN job.error END,
        cancelled = false, lease = NULL, started_at = NULL, deaths = 0
      WHERE job.id = pgq_retry.id;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'pgq_retry: job % could not be changed: a trigger of pgq_jobs keeps it', pgq_retry.id
      USING ERRCODE = 'triggered_action_exception';
  END IF;
  INSERT INTO pgq_audit (verb, ids, count) VALUES ('retry', ARRAY[pgq_retry.id], 1);
  IF pg_catalog.current_setting('pgq.bell', true) IS DISTINCT FROM 'off' THEN
    PERFORM pg_catalog.pg_notify('pgq_bell', pg_catalog.concat('pgq_jobs'::regclass::oid, ':', pg_catalog.hashtext(queue) & 255));
  END IF;
  RETURN 'retried';
END
$pgq$;
COMMENT ON FUNCTION pgq_retry(bigint, boolean) IS 'Makes a job due now, with fresh retries, or with what is left of the old ones. Returns retried, running or unknown.';
