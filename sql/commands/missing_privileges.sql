-- Returns the role of this session, which of these privileges it does not have, as one text for a message, or null, and
-- the statements that grant them.
--
-- $1 text[]: privileges, each as TABLE PRIVILEGE or TABLE PRIVILEGE COLUMN
WITH lacks AS (
  SELECT wanted.* FROM (
    SELECT pg_catalog.split_part(word, ' ', 1) AS relation, pg_catalog.split_part(word, ' ', 2) AS privilege,
      nullif(pg_catalog.split_part(word, ' ', 3), '') AS name, position
    FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS words (word, position)) AS wanted
  WHERE to_regclass(wanted.relation) IS NOT NULL AND NOT CASE
    WHEN wanted.name IS NULL THEN has_table_privilege(wanted.relation, wanted.privilege)
    ELSE has_column_privilege(wanted.relation, wanted.name, wanted.privilege) END),
kinds AS (
  SELECT relation, privilege || coalesce(' (' || pg_catalog.string_agg(name, ', ' ORDER BY position) || ')', '') AS words,
    pg_catalog.min(position) AS position
  FROM lacks GROUP BY relation, privilege, name IS NULL),
grants AS (
  SELECT 'GRANT ' || pg_catalog.string_agg(words, ', ' ORDER BY position) || ' ON ' || relation || ' TO '
      || pg_catalog.quote_ident(current_user::text) AS statement, pg_catalog.min(position) AS position
  FROM kinds GROUP BY relation)
SELECT current_user::text,
  (SELECT pg_catalog.string_agg(privilege || coalesce(' (' || name || ')', '') || ' on ' || relation, ', ' ORDER BY position)
    FROM lacks),
  (SELECT pg_catalog.string_agg(statement, pg_catalog.chr(59) || ' ' ORDER BY position) FROM grants)
