-- Returns the first three elements of a list that pgq_why returns as "who", in words for its sentence.
CREATE OR REPLACE FUNCTION pgq_why_words(who jsonb) RETURNS text LANGUAGE plpgsql STABLE STRICT AS $pgq$
DECLARE
  one jsonb;
  words text;
  since text;
  all_words text[] := '{}';
BEGIN
  FOR one IN SELECT element.value FROM pg_catalog.jsonb_array_elements(who) WITH ORDINALITY AS element (value, number)
    ORDER BY element.number LIMIT 3
  LOOP
    since := ' for ' || pgq_why_span(statement_timestamp() - (one ->> 'since'::text)::timestamptz);
    words := CASE one ->> 'kind'::text
      WHEN 'worker'::text THEN pg_catalog.concat('worker ', one ->> 'worker'::text, ', executor ' || (one ->> 'executor'::text),
        ', runs job ' || (one ->> 'job'::text), ' of queue ' || pg_catalog.quote_literal(one ->> 'queue'::text),
        CASE WHEN one ? 'job'::text THEN since END,
        ', and has been silent for ' || pgq_why_span(statement_timestamp() - (one ->> 'silent_since'::text)::timestamptz))
      WHEN 'prepared'::text THEN pg_catalog.concat('the prepared transaction ',
        pg_catalog.quote_literal(one ->> 'prepared'::text),
        ' of user ' || (one ->> 'user'::text), since)
      ELSE pg_catalog.concat('session ', one ->> 'pid'::text, ' (', pg_catalog.concat_ws(', ',
        nullif(pg_catalog.left(one ->> 'application'::text, 60), ''::text), 'user ' || (one ->> 'user'::text),
        one ->> 'state'::text, 'its transaction is open' || since,
        CASE WHEN one ? 'hidden'::text THEN 'members of pg_read_all_stats see its age'::text END), ')',
        CASE WHEN one ? 'waits'::text THEN ' that waits for'::text WHEN one ? 'lock'::text THEN ' with'::text END,
        ' the lock ' || (one ->> 'lock'::text))
      END;
    all_words := pg_catalog.array_append(all_words, words);
  END LOOP;
  RETURN pg_catalog.concat(pg_catalog.array_to_string(all_words, '; '),
    '; and ' || nullif(greatest(pg_catalog.jsonb_array_length(who) - 3, 0), 0)::text || ' more');
END
$pgq$;
COMMENT ON FUNCTION pgq_why_words(jsonb) IS 'Who is in the way, in words for the sentences of pgq_why.';
