-- Enqueues one job, and returns its id. The queue's name is sent as bytes, which the server decodes: so it does not
-- depend on the client encoding of the connection, which the caller chooses. Times are those of the database's clock.
--
-- $1 bytea: name of the queue, in UTF-8
-- $2 bytea: data of the job
-- $3 timestamptz: earliest time of the first attempt; null to use $4
-- $4 int8: milliseconds until the first attempt; null for no delay
-- $5 text[]: waits before each further attempt
INSERT INTO pgq_jobs (queue_name, run_after, retry_waits, data)
VALUES (pg_catalog.convert_from($1, 'UTF8'),
  coalesce($3, pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) ($4 OPERATOR(pg_catalog.*) interval '1 millisecond'), pg_catalog.now()),
  $5, $2)
RETURNING id
