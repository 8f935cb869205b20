-- Returns a duration as a reader of pgq_why wants it, such as 0.3s, 45s, 3m5s, 2h or 4d3h.
CREATE OR REPLACE FUNCTION pgq_why_span(span interval) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $pgq$
DECLARE
  seconds float8 := greatest(extract(epoch FROM span)::float8, 0::float8);
  whole int8;
BEGIN
  IF seconds < 9.95::float8 THEN
    RETURN pg_catalog.concat(pg_catalog.round(seconds::numeric, 1), 's');
  END IF;
  whole := least(seconds, 1e15::float8)::int8;
  RETURN CASE
    WHEN whole < 60::int8 THEN pg_catalog.concat(whole, 's')
    WHEN whole < 3600::int8 THEN
      pg_catalog.concat(whole / 60::int8, 'm', nullif(pg_catalog.concat(whole % 60::int8, 's'), '0s'::text))
    WHEN whole < 86400::int8 THEN
      pg_catalog.concat(whole / 3600::int8, 'h', nullif(pg_catalog.concat(whole % 3600::int8 / 60::int8, 'm'), '0m'::text))
    ELSE
      pg_catalog.concat(whole / 86400::int8, 'd', nullif(pg_catalog.concat(whole % 86400::int8 / 3600::int8, 'h'), '0h'::text))
  END;
END
$pgq$;
COMMENT ON FUNCTION pgq_why_span(interval) IS 'A duration for the sentences of pgq_why, such as 3m5s.';
