-- Returns how long a number of jobs will take, in words for the sentence of pgq_why. Without figures of the last minutes
-- it says that there are none. Sleeping workers do not hear of new jobs if the trigger of the doorbell is not there.
CREATE OR REPLACE FUNCTION pgq_why_speed(jobs bigint, pace float8, workers jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $pgq$
BEGIN
  RETURN pg_catalog.concat(
    CASE WHEN pace IS NULL THEN 'No attempt has ended in the last minutes'::text
      ELSE pg_catalog.concat(pg_catalog.round(pace::numeric, CASE WHEN pace < 10::float8 THEN 1 ELSE 0 END),
        ' a minute have ended lately', CASE WHEN jobs > 0::int8 THEN pg_catalog.concat(', so that takes ',
          CASE WHEN jobs > 10000::int8 THEN 'more than '::text END,
          pgq_why_span(jobs::float8 / pace * interval '1 min')) END) END,
    '. Served by ', pgq_why_words(workers), '.',
    CASE WHEN NOT EXISTS (
      SELECT FROM pg_catalog.pg_trigger AS trigger
      WHERE trigger.tgrelid = 'pgq_jobs'::regclass::oid AND trigger.tgname = 'pgq_ring'::name
        AND trigger.tgenabled = ANY ('{O,A}'::"char"[]))
    THEN ' The trigger pgq_ring is missing or disabled, so that sleeping workers find jobs at their next poll.'::text END);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_speed(bigint, float8, jsonb) IS 'How long a number of jobs will take, in words for pgq_why.';
