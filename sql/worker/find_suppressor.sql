-- Returns what can make a statement on pgq_jobs change no row without an error, as a text for the log: triggers that fire
-- before each row, rules that replace the statement, row security. Null if there is nothing of the kind. Partitions are
-- looked at, too.
--
-- $1 text: DELETE or UPDATE
WITH RECURSIVE relation AS (
  SELECT pg_catalog.to_regclass('pgq_jobs')::oid AS oid
  UNION
  SELECT inhrelid FROM pg_catalog.pg_inherits JOIN relation ON inhparent = relation.oid)
SELECT pg_catalog.string_agg(what, ', ' ORDER BY what)
FROM (
  SELECT DISTINCT pg_catalog.concat('trigger ', tgname, ' (function ', tgfoid::regproc, ', before ', $1::text, ')') AS what
  FROM pg_catalog.pg_trigger JOIN relation ON tgrelid = relation.oid
  WHERE tgenabled IN ('O', 'A') AND (tgtype::int4 & 3) = 3
    AND (tgtype::int4 & CASE $1::text WHEN 'DELETE' THEN 8 ELSE 16 END) <> 0
  UNION ALL
  SELECT pg_catalog.concat('rule ', rulename, ' of ', ev_class::regclass)
  FROM pg_catalog.pg_rewrite JOIN relation ON ev_class = relation.oid
  WHERE is_instead AND ev_enabled IN ('O', 'A') AND ev_type = CASE $1::text WHEN 'DELETE' THEN '4' ELSE '2' END::"char"
  UNION ALL
  SELECT pg_catalog.concat('row security of ', relation.oid::regclass, ' for the role ', current_user)
  FROM relation
  WHERE pg_catalog.row_security_active(relation.oid)) AS suppressor
