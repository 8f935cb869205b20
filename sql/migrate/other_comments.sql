-- Returns those of the given COMMENT statements that would change a comment.
--
-- $1 text[]: the statements, each on one line as in sql/schema
SELECT wanted.statement
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS wanted (statement, number)
CROSS JOIN LATERAL pg_catalog.regexp_match(wanted.statement,
  '^COMMENT ON ([A-Z]+) ([a-z_]+)[.]?([a-z_]*)(?:[(]([^)]*)[)])?(?: ON ([a-z_]+))? IS ''(.*)''.$') AS part
CROSS JOIN LATERAL pg_catalog.pg_get_object_address(
  CASE part[1] WHEN 'COLUMN' THEN 'table column' ELSE lower(part[1]) END,
  CASE WHEN part[3] <> '' THEN ARRAY[part[2], part[3]] WHEN part[5] IS NOT NULL THEN ARRAY[part[5], part[2]] ELSE ARRAY[part[2]] END,
  CASE WHEN part[4] <> '' THEN pg_catalog.string_to_array(part[4], ', ') ELSE '{}'::text[] END) AS object
WHERE NOT EXISTS (
  SELECT FROM pg_description
  WHERE pg_description.objoid = object.objid AND pg_description.classoid = object.classid
    AND pg_description.objsubid = object.objsubid
    AND pg_description.description = pg_catalog.replace(part[6], '''''', ''''))
ORDER BY wanted.number
