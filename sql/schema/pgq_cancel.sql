-- Cancels one job, wherever it runs, and returns one of these:
--   cancelled  the job was waiting, and will not run
--   running    a worker had leased the job; the worker is notified, and ends the handler
--   ended      the job had ended before: it had failed, was cancelled, or was completed and preserved
--   unknown    there is no job with that id; completed jobs are deleted, and so they are unknown
-- If a worker has locked the row, the call waits for it, at most a second. The caller needs SELECT and UPDATE on pgq_jobs.
-- At REPEATABLE READ and SERIALIZABLE a row cannot be changed that another session has changed since the transaction's
-- snapshot, and no function can take a new one: the error says so.
CREATE OR REPLACE FUNCTION pgq_cancel(id bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $pgq$
DECLARE
  token bigint;
  ended boolean;
BEGIN
  IF pgq_cancel.id IS NULL THEN
    RAISE EXCEPTION 'pgq_cancel: the id is null' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Two statements: the second sees the row as it was when the first had locked it, after any wait.
  BEGIN
    SELECT job.lease, job.ran_at IS NOT NULL INTO token, ended FROM pgq_jobs AS job WHERE job.id = pgq_cancel.id FOR UPDATE;
  EXCEPTION WHEN serialization_failure THEN
    RAISE EXCEPTION 'pgq_cancel: another session has changed job % since this transaction began, which is %', pgq_cancel.id,
        pg_catalog.current_setting('transaction_isolation')
      USING ERRCODE = 'serialization_failure',
        HINT = 'Call pgq_cancel in a transaction that begins with BEGIN ISOLATION LEVEL READ COMMITTED.';
  END;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  IF ended THEN
    RETURN 'ended';
  END IF;
  UPDATE pgq_jobs AS job SET ran_at = statement_timestamp(), cancelled = true, error = coalesce(job.error, 'cancelled'),
      lease = NULL, started_at = NULL, deaths = 0
    WHERE job.id = pgq_cancel.id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'pgq_cancel: job % could not be changed: a trigger of pgq_jobs keeps it', pgq_cancel.id
      USING ERRCODE = 'triggered_action_exception';
  END IF;
  IF token IS NULL THEN
    RETURN 'cancelled';
  END IF;
  PERFORM pg_catalog.pg_notify('pgq_cancel', pg_catalog.format('%s:%s', 'pgq_jobs'::regclass::oid, pgq_cancel.id));
  RETURN 'running';
END
$pgq$;
COMMENT ON FUNCTION pgq_cancel(bigint) IS 'Cancels a job, also while it runs. Returns cancelled, running, ended or unknown.';
