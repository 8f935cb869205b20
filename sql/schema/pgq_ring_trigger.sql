-- The trigger that calls pgq_ring. One ring for each queue is enough in a transaction, so the condition excludes the
-- queue for which pgq_ring was last called. It contains the oid of the table as a constant, because looking it up would
-- cost each INSERT more than the rest of the trigger. In a table that was restored from a dump the constant is wrong,
-- so that the condition is always true, which is only slower. This block then creates the trigger again.
DO $pgq$
DECLARE
  jobs pg_catalog.oid := 'pgq_jobs'::pg_catalog.regclass;
  served pg_catalog.text := pg_catalog.quote_literal(jobs::pg_catalog.text OPERATOR(pg_catalog.||) ':');
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid OPERATOR(pg_catalog.=) jobs
    AND tgname OPERATOR(pg_catalog.=) 'pgq_ring'
    AND pg_catalog.strpos(pg_catalog.pg_get_triggerdef(oid), served) OPERATOR(pg_catalog.>) 0) THEN
    RETURN;
  END IF;
  DROP TRIGGER IF EXISTS pgq_ring ON pgq_jobs;
  EXECUTE pg_catalog.format('CREATE TRIGGER pgq_ring BEFORE INSERT ON pgq_jobs FOR EACH ROW'
    ' WHEN (pg_catalog.current_setting(''pgq.bell'', true) IS DISTINCT FROM %s OPERATOR(pg_catalog.||) NEW.queue_name)'
    ' EXECUTE FUNCTION pgq_ring()', served);
END
$pgq$;
COMMENT ON TRIGGER pgq_ring ON pgq_jobs IS 'Notifies sleeping workers of enqueued jobs; see the function pgq_ring.';
