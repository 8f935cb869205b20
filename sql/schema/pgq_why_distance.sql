-- Returns how many characters must be added, removed, replaced or swapped with their neighbour to make one text of the
-- other. Only the first 40 characters are compared: the time grows with the product of the lengths.
CREATE OR REPLACE FUNCTION pgq_why_distance(a text, b text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $pgq$
DECLARE
  first text[] := pg_catalog.regexp_split_to_array(pg_catalog.left(a, 40), '');
  second text[] := pg_catalog.regexp_split_to_array(pg_catalog.left(b, 40), '');
  m int4 := CASE WHEN a = '' THEN 0 ELSE pg_catalog.cardinality(first) END;
  n int4 := CASE WHEN b = '' THEN 0 ELSE pg_catalog.cardinality(second) END;
  -- The distances of the first i characters of `a` from the first 0 .. n characters of `b`, at the index j + 1; and the
  -- same for i - 1 and i - 2.
  row_now int4[];
  row_before int4[];
  row_earlier int4[];
BEGIN
  FOR j IN 0 .. n LOOP
    row_now[j + 1] := j;
  END LOOP;
  FOR i IN 1 .. m LOOP
    row_earlier := row_before;
    row_before := row_now;
    row_now[1] := i;
    FOR j IN 1 .. n LOOP
      row_now[j + 1] := least(row_before[j + 1] + 1, row_now[j] + 1,
        row_before[j] + CASE WHEN first[i] = second[j] THEN 0 ELSE 1 END);
      IF i > 1 AND j > 1 AND first[i] = second[j - 1] AND first[i - 1] = second[j] THEN
        row_now[j + 1] := least(row_now[j + 1], row_earlier[j - 1] + 1);
      END IF;
    END LOOP;
  END LOOP;
  RETURN row_now[n + 1];
END
$pgq$;
COMMENT ON FUNCTION pgq_why_distance(text, text) IS 'How many characters two names differ by, for pgq_why.';
