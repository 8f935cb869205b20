-- Pauses a queue: no worker claims jobs of it until that time, or until it is resumed. Jobs that run go on. Another pause
-- replaces the one before. Workers are notified; those behind a pooler learn it at their next heartbeat.
CREATE OR REPLACE FUNCTION pgq_pause(queue text, until timestamptz DEFAULT 'infinity', reason text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE AS $pgq$
BEGIN
  IF queue IS NULL OR queue = '' THEN
    RAISE EXCEPTION 'pgq_pause: the queue name is empty' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF until IS NULL OR until <= clock_timestamp() THEN
    RAISE EXCEPTION 'pgq_pause: the end of the pause, %, is not in the future', coalesce(until::text, 'null')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out to pause the queue until it is resumed.';
  END IF;
  INSERT INTO pgq_queues (queue_name, paused_at, paused_until, paused_by, pause_reason)
    VALUES (queue, clock_timestamp(), until, session_user, left(reason, 1000))
    ON CONFLICT (queue_name) DO UPDATE SET paused_at = excluded.paused_at, paused_until = excluded.paused_until,
      paused_by = excluded.paused_by, pause_reason = excluded.pause_reason;
  INSERT INTO pgq_audit (verb, selection, count, detail)
    VALUES ('pause', queue, 1, pg_catalog.concat_ws(': ', 'until ' || until::text, left(reason, 1000)));
  PERFORM pg_catalog.pg_notify('pgq_control', pg_catalog.concat('pgq_jobs'::regclass::oid, ':queues'));
  RETURN 'paused';
END
$pgq$;
COMMENT ON FUNCTION pgq_pause(text, timestamptz, text) IS 'Pauses a queue until that time, or until it is resumed, for that reason. Returns paused.';
