-- Finds, of queues that a claim does not ask, those of which a job is due. Another session may have locked it. This is
-- one step into the index pgq_jobs_fetch for each queue, and locks nothing. The LIMIT keeps Postgres from reading the
-- jobs of all queues to join them.
--
-- $1 text[]: names of the queues
-- $2 timestamptz[]: for each queue, the run_after of the place from which it is read
-- $3 int8[]: for each queue, the id of that place
-- prepared: yes
SELECT queue.position
FROM unnest($1::text[], $2::timestamptz[], $3::int8[]) WITH ORDINALITY AS queue (name, floor, floor_id, position)
CROSS JOIN LATERAL (
  SELECT FROM pgq_jobs
  WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()
    AND (run_after, id) >= (queue.floor, queue.floor_id)
  LIMIT 1) AS job
