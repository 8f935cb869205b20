-- Ends the pause of a queue, and the backoff of the queue in every worker. Workers are notified; those behind a pooler
-- learn it at their next heartbeat. Returns "resumed", or "not paused" if only a backoff could end.
CREATE OR REPLACE FUNCTION pgq_resume(queue text) RETURNS text LANGUAGE plpgsql VOLATILE AS $pgq$
DECLARE
  ends timestamptz;
BEGIN
  IF queue IS NULL OR queue = '' THEN
    RAISE EXCEPTION 'pgq_resume: the queue name is empty' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT paused_until INTO ends FROM pgq_queues WHERE queue_name = queue FOR UPDATE;
  INSERT INTO pgq_queues (queue_name, resumed_at) VALUES (queue, clock_timestamp())
    ON CONFLICT (queue_name) DO UPDATE SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL,
      resumed_at = excluded.resumed_at;
  INSERT INTO pgq_audit (verb, selection, count) VALUES ('resume', queue, 1);
  PERFORM pg_catalog.pg_notify('pgq_control', pg_catalog.concat('pgq_jobs'::regclass::oid, ':queues'));
  RETURN CASE WHEN ends > clock_timestamp() THEN 'resumed' ELSE 'not paused' END;
END
$pgq$;
COMMENT ON FUNCTION pgq_resume(text) IS 'Ends the pause of a queue, and its backoff in every worker. Returns resumed or not paused.';
