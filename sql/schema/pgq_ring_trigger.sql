-- The trigger that calls pgq_ring. One ring for each queue is enough in a transaction, so the condition excludes the
-- queue for which pgq_ring was last called. It contains the oid of the table as a constant, because looking it up would
-- cost each INSERT more than the rest of the trigger. In a table that was restored from a dump the constant is wrong,
-- so that the condition is always true, which is only slower. This block then creates the trigger again.
DO $pgq$
DECLARE
  served text := quote_literal('pgq_jobs'::regclass::oid || ':');
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'pgq_jobs'::regclass AND tgname = 'pgq_ring'
    AND strpos(pg_get_triggerdef(oid), served) > 0) THEN
    RETURN;
  END IF;
  DROP TRIGGER IF EXISTS pgq_ring ON pgq_jobs;
  EXECUTE format('CREATE TRIGGER pgq_ring BEFORE INSERT ON pgq_jobs FOR EACH ROW'
    ' WHEN (pg_catalog.current_setting(''pgq.bell'', true) IS DISTINCT FROM %s OPERATOR(pg_catalog.||) NEW.queue_name)'
    ' EXECUTE FUNCTION pgq_ring()', served);
END
$pgq$;
COMMENT ON TRIGGER pgq_ring ON pgq_jobs IS 'Notifies sleeping workers of enqueued jobs; see the function pgq_ring.';
