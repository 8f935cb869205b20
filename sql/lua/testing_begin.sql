-- Inserts a job that is leased at once, for one run of a handler. Returns what the handler sees of it.
--
-- $1 text: name of the queue
-- $2 bytea: data of the job
-- $3 text[]: waits before the next attempts
-- $4 int4: number of this attempt
-- $5 float8: when the job was enqueued, in Unix seconds; null for now
-- $6 float8: earliest time of this attempt, in Unix seconds; null for now
INSERT INTO pgq_jobs (queue_name, data, retry_waits, attempt, created_at, run_after, lease)
VALUES ($1, $2, $3::text[], $4, coalesce(to_timestamp($5::float8), now()), now() + interval '1 day',
  (random() * 1e14::float8)::bigint + 1)
RETURNING id, lease, extract(epoch FROM created_at)::float8 AS created_at,
  coalesce($6::float8, extract(epoch FROM now())::float8) AS run_after
