-- Claims due jobs: locks their rows until the transaction ends, writes nothing, and returns them by queue, in the order
-- in which they fell due. This is one range scan of the index pgq_jobs_fetch for each queue. The columns are those of
-- enum claim_column in statements.h. A value that most jobs share is returned as null, which costs the least. The floor
-- of a queue is where its last full claim ended; the scan does not read the rows before it again.
--
-- Every column has a bound, whatever an enqueuer has written. Retry waits that cannot be read, or are larger than a
-- check of the table allows, are returned as an array that no worker accepts, so that their job fails alone. The first
-- look is at the stored size, which costs nothing and bounds what the value can become when it is decompressed.
--
-- $1 text[]: names of the queues
-- $2 int4[]: for each queue, the greatest number of jobs to claim
-- $3 int4: longest data in bytes to return with a job; longer data is left to fetch_data.sql
-- $4 int8: the greatest number of jobs to claim from all queues together
-- $5 timestamptz[]: for each queue, the floor's run_after
-- $6 int8[]: for each queue, the floor's id
-- prepared: yes
SELECT nullif(queue.position, 1), job.id,
  CASE WHEN job.tableoid = 'pgq_jobs'::regclass::oid THEN job.ctid END,
  job.run_after, nullif(job.created_at, job.run_after), nullif(job.attempt, 0),
  CASE
    WHEN pg_catalog.pg_column_size(job.retry_waits) <= 100 THEN
      CASE WHEN job.retry_waits OPERATOR(pg_catalog.<>) '{1m0s,10m0s,30m0s}'::text[] THEN job.retry_waits END
    WHEN pg_catalog.pg_column_size(job.retry_waits) <= 40000
      AND pg_catalog.array_ndims(job.retry_waits) = 1 AND pg_catalog.cardinality(job.retry_waits) <= 1000
      AND octet_length(pg_catalog.array_to_string(job.retry_waits, '')) <= 32768 THEN job.retry_waits
    ELSE '{{unreadable}}'::text[]
  END,
  job.lease,
  nullif(job.suspect, false),
  CASE WHEN octet_length(job.data) > $3::int4 THEN octet_length(job.data) END,
  CASE WHEN octet_length(job.data) <= $3::int4 THEN job.data END
FROM unnest($1::text[], $2::int4[], $5::timestamptz[], $6::int8[])
  WITH ORDINALITY AS queue (name, most, floor, floor_id, position)
CROSS JOIN LATERAL (
  SELECT tableoid, ctid, id, attempt, created_at, run_after, retry_waits, lease, suspect, data
  FROM pgq_jobs
  WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()
    AND (run_after, id) >= (queue.floor, queue.floor_id)
  ORDER BY run_after, id LIMIT queue.most
  FOR UPDATE SKIP LOCKED) AS job
LIMIT $4::int8
