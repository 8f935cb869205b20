-- Returns how many attempts of a queue's jobs have ended per minute in the last five minutes; null for none.
CREATE OR REPLACE FUNCTION pgq_why_pace(queue_name text) RETURNS float8 LANGUAGE plpgsql STABLE AS $pgq$
DECLARE
  since timestamptz := pg_catalog.date_trunc('minute', statement_timestamp()) - interval '5 min';
BEGIN
  RETURN (
    SELECT nullif(pg_catalog.sum(stats.completed + stats.retried + stats.failed + stats.snoozed)::float8, 0::float8)
      / (extract(epoch FROM statement_timestamp() - greatest(since, pg_catalog.min(stats.minute)))::float8 / 60::float8)
    FROM pgq_stats AS stats
    WHERE stats.queue_name = pgq_why_pace.queue_name AND stats.minute >= since);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_pace(text) IS 'How many jobs of a queue end per minute, for pgq_why.';
