-- Claims due jobs: locks their rows until the transaction ends, writes nothing, and returns them by queue, in the order
-- in which they fell due. This is one range scan of the index pgq_jobs_fetch for each queue. The columns are those of
-- enum claim_column in statements.h. A value that most jobs share is returned as null, which costs the least. The floor
-- of a queue is where its last full claim ended; the scan does not read the rows before it again.
--
-- Every column has a bound, whatever an enqueuer has written. Retry waits that cannot be read, or are larger than a
-- check of the table allows, are returned as an array that no worker accepts, so that their job fails alone. The first
-- look is at the stored size, which costs nothing and bounds what the value can become when it is decompressed.
--
-- A job is interrupted if the transaction that locked its row last, which xmax names, was aborted: an earlier claim ended
-- without writing the job, because its worker died or lost its session. xmax has no epoch: it is that of the latest
-- transaction, or the one before. xmax is read before the claim locks the row.
--
-- $1 text[]: names of the queues
-- $2 int4[]: for each queue, the greatest number of jobs to claim
-- $3 int4: longest data in bytes to return with a job; longer data is left to fetch_data.sql
-- $4 int8: the greatest number of jobs to claim from all queues together
-- $5 timestamptz[]: for each queue, the floor's run_after
-- $6 int8[]: for each queue, the floor's id
-- $7 int4: least number of deaths that the jobs have seen
-- $8 int4: greatest number of deaths that the jobs have seen
-- $9 int8[]: ids of jobs that this worker has in hand, and cannot write
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
  nullif(job.deaths, 0)::int4,
  CASE WHEN job.xmax <> '0'::xid THEN (
    SELECT nullif(pg_xact_status((CASE WHEN xid < next THEN xid WHEN epoch > 0 THEN xid - 4294967296 END)::text::xid8)
      = 'aborted', false)
    FROM (SELECT next, next >> 32 AS epoch, (next >> 32 << 32) | job.xmax::text::int8 AS xid
      FROM pg_snapshot_xmax(pg_current_snapshot()) AS latest, CAST(latest::text AS int8) AS next) AS locker) END,
  CASE WHEN octet_length(job.data) > $3::int4 THEN octet_length(job.data) END,
  CASE WHEN octet_length(job.data) <= $3::int4 THEN job.data END
FROM unnest($1::text[], $2::int4[], $5::timestamptz[], $6::int8[])
  WITH ORDINALITY AS queue (name, most, floor, floor_id, position)
CROSS JOIN LATERAL (
  SELECT tableoid, ctid, xmax, id, attempt, created_at, run_after, retry_waits, lease, deaths, data
  FROM pgq_jobs
  WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= now()
    AND (run_after, id) >= (queue.floor, queue.floor_id) AND deaths >= $7::int4 AND deaths <= $8::int4
    AND id <> ALL ($9::int8[])
  ORDER BY run_after, id LIMIT queue.most
  FOR UPDATE SKIP LOCKED) AS job
LIMIT $4::int8
