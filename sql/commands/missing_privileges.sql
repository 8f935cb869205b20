-- Returns the role of this session, and which of these privileges it does not have, as one text for a message, or null.
--
-- $1 text[]: privileges, each as TABLE PRIVILEGE or TABLE PRIVILEGE COLUMN
SELECT current_user::text, pg_catalog.string_agg(wanted.privilege || coalesce(' (' || wanted.name || ')', '') || ' on ' || wanted.relation, ', '
  ORDER BY wanted.position)
FROM (
  SELECT pg_catalog.split_part(word, ' ', 1) AS relation, pg_catalog.split_part(word, ' ', 2) AS privilege,
    nullif(pg_catalog.split_part(word, ' ', 3), '') AS name, position
  FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS words (word, position)) AS wanted
WHERE to_regclass(wanted.relation) IS NOT NULL AND NOT CASE
  WHEN wanted.name IS NULL THEN has_table_privilege(wanted.relation, wanted.privilege)
  ELSE has_column_privilege(wanted.relation, wanted.name, wanted.privilege) END
