-- Returns, before the worker sleeps, whether each queue has a due job after all, and in how many milliseconds its next
-- job falls due. The columns are those of enum next_due_column in statements.h. The statement is sent in the
-- transaction of a claim, whose now() is too old: jobs may have failed, and may be due again, since it began. A job
-- whose run_after is infinity never falls due.
--
-- $1 text[]: names of the queues
-- prepared: yes
SELECT queue.position,
  EXISTS (
    SELECT FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= statement_timestamp()),
  (SELECT ceil(extract(epoch FROM run_after - clock_timestamp())::float8 * 1000::float8)::int8
    FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NULL AND run_after > statement_timestamp() AND run_after < 'infinity'
    ORDER BY run_after, id LIMIT 1)
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS queue (name, position)
