-- Checks the privileges: of the roles of running workers, of all roles, and of this role. The columns are those of
-- doctor_server.sql.
WITH needs (relation, privilege) AS (
  SELECT words.relation, privilege.name
  FROM (VALUES
    ('pgq_jobs'::text, '{SELECT,UPDATE,DELETE}'::text[]),
    ('pgq_workers', '{SELECT,INSERT,UPDATE,DELETE}'),
    ('pgq_frontiers', '{SELECT,INSERT,UPDATE,DELETE}'),
    ('pgq_attempts', '{SELECT,INSERT,UPDATE,DELETE}'),
    ('pgq_stats', '{SELECT,INSERT,UPDATE,DELETE}'),
    ('pgq_audit', '{SELECT,DELETE}'),
    ('pgq_queues', '{SELECT}')) AS words (relation, privileges)
  CROSS JOIN LATERAL pg_catalog.unnest(words.privileges) AS privilege (name)
  WHERE pg_catalog.to_regclass(words.relation) IS NOT NULL),
roles AS (
  SELECT DISTINCT activity.usesysid AS id, activity.usename::text AS name
  FROM pg_catalog.pg_locks AS lock
  JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
  WHERE lock.locktype = 'advisory'::text AND lock.granted AND lock.objsubid = 2::int2
    AND lock.classid = pg_catalog.to_regclass('pgq_workers')::oid
    AND activity.usesysid IS NOT NULL),
lacks AS (
  SELECT roles.name, needs.relation, pg_catalog.string_agg(needs.privilege, ', ') AS privileges
  FROM roles CROSS JOIN needs
  WHERE NOT pg_catalog.has_table_privilege(roles.id, pg_catalog.to_regclass(needs.relation)::oid, needs.privilege)
  GROUP BY roles.name, needs.relation),
open AS (
  SELECT class.relname::text AS relation, pg_catalog.string_agg(acl.privilege_type, ', ') AS privileges
  FROM pg_catalog.unnest('{pgq_jobs,pgq_workers,pgq_queues,pgq_frontiers,pgq_attempts,pgq_stats,pgq_audit}'::text[]) AS wanted (name)
  JOIN pg_catalog.pg_class AS class ON class.oid = pg_catalog.to_regclass(wanted.name)::oid
  CROSS JOIN LATERAL pg_catalog.aclexplode(class.relacl) AS acl
  WHERE acl.grantee = 0::oid AND acl.privilege_type <> 'SELECT'::text
  GROUP BY class.relname),
unreadable AS (
  SELECT pg_catalog.string_agg(wanted.name, ', ') AS names
  FROM pg_catalog.unnest('{pgq_jobs,pgq_workers,pgq_queues,pgq_attempts,pgq_stats,pgq_audit}'::text[]) AS wanted (name)
  WHERE pg_catalog.to_regclass(wanted.name) IS NOT NULL
    AND NOT pg_catalog.has_table_privilege(pg_catalog.to_regclass(wanted.name)::oid, 'SELECT'))
SELECT 'privileges', 'bad', pg_catalog.concat('the role ', pg_catalog.quote_literal(name),
  ' of a running worker does not have ', privileges, ' on ',
    relation), pg_catalog.concat('GRANT ', privileges, ' ON ', relation, ' TO ', pg_catalog.quote_ident(name))
FROM lacks
UNION ALL
SELECT 'privileges', 'warn', pg_catalog.concat('every role has ', privileges, ' on ', relation),
  pg_catalog.concat('REVOKE ', privileges, ' ON ', relation, ' FROM PUBLIC')
FROM open
UNION ALL
SELECT 'privileges', 'warn', pg_catalog.concat('the role ', pg_catalog.quote_literal(current_user::text),
  ', as which doctor runs, cannot read ', names,
    ': some checks were left out'), pg_catalog.concat('GRANT SELECT ON ', names, ' TO ',
      pg_catalog.quote_ident(current_user::text))
FROM unreadable WHERE names IS NOT NULL
UNION ALL
SELECT 'privileges', 'ok', pg_catalog.concat('the roles of running workers have what they need: ',
    coalesce((SELECT pg_catalog.string_agg(name, ', ') FROM roles), 'there are none'::text)), NULL
WHERE NOT EXISTS (SELECT FROM lacks)
