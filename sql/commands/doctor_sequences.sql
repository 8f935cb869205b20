-- Checks how much is left of the numbers of jobs, attempts and workers. A role that may not read a sequence sees the
-- greatest number in the table. The columns are those of doctor_server.sql.
WITH numbers AS (
  SELECT used.relation, class.relname::text AS name, column_type.typname = 'int8'::name AS is_large,
    least(sequence.seqmax, CASE WHEN column_type.typname = 'int8'::name
      THEN 9223372036854775807 ELSE 2147483647::int8 END) AS most,
    greatest(used.highest, CASE WHEN pg_catalog.has_sequence_privilege(class.oid, 'SELECT')
      THEN pg_catalog.pg_sequence_last_value(class.oid::regclass) END, 0::int8) AS last
  FROM (
    SELECT 'pgq_jobs'::text AS relation, pg_catalog.max(id)::int8 AS highest FROM pgq_jobs
    UNION ALL SELECT 'pgq_attempts', pg_catalog.max(id) FROM pgq_attempts
    UNION ALL SELECT 'pgq_workers', pg_catalog.max(id) FROM pgq_workers) AS used
  JOIN pg_catalog.pg_attribute ON attrelid = pg_catalog.to_regclass(used.relation)::oid AND attname = 'id'::name
  JOIN pg_catalog.pg_type AS column_type ON column_type.oid = atttypid
  JOIN pg_catalog.pg_class AS class ON class.oid = pg_catalog.to_regclass(pg_catalog.pg_get_serial_sequence(used.relation, 'id'))::oid
  JOIN pg_catalog.pg_sequence AS sequence ON sequence.seqrelid = class.oid)
SELECT 'sequences', CASE WHEN share > 0.9::float8 THEN 'bad' WHEN share > 0.5::float8 THEN 'warn' ELSE 'ok' END,
  pg_catalog.concat(relation, ' has used ', last, ' of ', most, ' numbers',
    CASE WHEN share > 0.5::float8 AND is_large THEN '. Before it begins anew, no row may have a number that comes again' END),
  CASE WHEN share <= 0.5::float8 THEN NULL WHEN NOT is_large THEN 'pgq-lua migrate'
    WHEN most < 9223372036854775807 THEN pg_catalog.concat('ALTER SEQUENCE ', name, ' AS bigint NO MAXVALUE')
    ELSE pg_catalog.concat('ALTER SEQUENCE ', name, ' RESTART') END
FROM (SELECT numbers.*, last::float8 / most::float8 AS share FROM numbers) AS judged
WHERE share > 0.5::float8 OR relation = 'pgq_jobs'::text
