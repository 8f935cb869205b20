-- Writes to pgq_attempts the attempts of leased jobs that were cancelled while they ran: their handlers have ended, or were
-- killed. The row of the job has ended, and has still the number of this attempt; jobs that have lost their leases for
-- another reason are left out. Returns the ids of the jobs whose attempts it wrote.
--
-- $1 int8[]: ids of the jobs
-- $2 text[]: for each job, the name of its queue
-- $3 int4[]: for each job, the number of the attempt
-- $4 int8[]: for each job, the microseconds since its handler began; null when that is not known
-- $5 text[]: for each job, the message of its error, or null
-- $6 text[]: for each job, the traceback of its error, or null
-- $7 int8: id of this worker's row, or 0
-- $8 text: this worker, as host:pid
-- $9 text: version of the script, or null
INSERT INTO pgq_attempts (job_id, queue_name, attempt, started_at, ended_at, worker_id, worker, version, outcome, error,
  traceback)
SELECT ended.id, ended.queue, ended.attempt, statement_timestamp() - ended.us::float8 * interval '1 microsecond',
  statement_timestamp(), NULLIF($7::int8, 0::int8), $8::text, $9::text, 'cancelled'::text, ended.error, ended.traceback
FROM unnest($1::int8[], $2::text[], $3::int4[], $4::int8[], $5::text[], $6::text[])
  AS ended (id, queue, attempt, us, error, traceback)
JOIN pgq_jobs AS job ON job.id = ended.id
WHERE job.cancelled AND job.ran_at IS NOT NULL AND job.attempt = ended.attempt
RETURNING job_id
