-- Enqueues one job for each element of $2, and returns their ids. The ids have the order of the elements: they are
-- drawn above the ORDER BY, which costs no sort. Everything else is as in enqueue.sql.
--
-- $1 bytea: name of the queue, in UTF-8
-- $2 bytea[]: data of the jobs
-- $3 timestamptz: earliest time of the first attempt; null to use $4
-- $4 int8: milliseconds until the first attempt; null for no delay
-- $5 text[]: waits before each further attempt
INSERT INTO pgq_jobs (queue_name, run_after, retry_waits, data)
SELECT pg_catalog.convert_from($1, 'UTF8'),
  coalesce($3, pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) ($4 OPERATOR(pg_catalog.*) interval '1 millisecond'), pg_catalog.now()),
  $5, job.data
FROM pg_catalog.unnest($2) WITH ORDINALITY AS job (data, number)
ORDER BY job.number
RETURNING id
