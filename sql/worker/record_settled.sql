-- Writes to pgq_attempts, with --keep-attempts all, the attempts of transactional handlers that have completed their jobs
-- themselves: their transactions are committed.
--
-- $1 int8[]: ids of the jobs
-- $2 text[]: for each job, the name of its queue
-- $3 int4[]: for each job, the number of the attempt
-- $4 int8[]: for each job, the microseconds since its handler began
-- $5 int8: id of this worker's row, or 0
-- $6 text: this worker, as host:pid
-- $7 text: version of the script, or null
INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome)
SELECT id, queue_name, attempt, statement_timestamp() - us::float8 * interval '1 microsecond', statement_timestamp(),
  NULLIF($5::int8, 0::int8), $6::text, $7::text, 'completed'::text
FROM unnest($1::int8[], $2::text[], $3::int4[], $4::int8[]) AS ended (id, queue_name, attempt, us)
