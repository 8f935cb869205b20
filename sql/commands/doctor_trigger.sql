-- Checks that the doorbell's trigger exists and is enabled. The columns are those of doctor_server.sql.
SELECT 'trigger', CASE WHEN tgenabled = ANY ('{O,A}'::"char"[]) THEN 'ok' ELSE 'bad' END,
  CASE WHEN tgenabled IS NULL THEN 'pgq_ring is missing: sleeping workers find new jobs at their next poll only'
    WHEN tgenabled = ANY ('{O,A}'::"char"[]) THEN 'pgq_ring is enabled'
    ELSE 'pgq_ring is disabled: sleeping workers find new jobs at their next poll only' END,
  CASE WHEN tgenabled IS NULL THEN 'pgq-lua migrate'
    WHEN tgenabled = ANY ('{O,A}'::"char"[]) THEN NULL ELSE 'ALTER TABLE pgq_jobs ENABLE TRIGGER pgq_ring' END
FROM (SELECT pg_catalog.to_regclass('pgq_jobs')::oid AS jobs) AS known
LEFT JOIN pg_catalog.pg_trigger ON tgrelid = jobs AND tgname = 'pgq_ring'::name
WHERE jobs IS NOT NULL
