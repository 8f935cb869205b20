-- Claims due jobs like claim.sql, and returns the same columns, when other workers share the queues. It differs in two ways.
--
-- If the worker claims in a region of a queue, the claim ends where the region ends: the scan stops at the first entry of
-- the index beyond that place. Where the jobs of a region differ in run_after, that is a bound for run_after. Otherwise it
-- is a bound for the id, which stops a scan only among equal values of run_after. So there are two scans for each queue;
-- one of them has the limit 0, and reads nothing. The second one writes its condition for the queue as ANY, and orders by
-- the queue, so that it cannot become a scan of the primary key.
--
-- If the claim is a sweep that needs the lock of lock_sweep.sql, it starts at the floors when another worker has the lock.
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
-- $10 timestamptz[]: for each queue, the greatest run_after
-- $11 int8[]: for each queue, the greatest id if its region is a stretch of ids, or null
-- $12 text: the queue whose lock decides whether the claim is a sweep, or an empty text
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
FROM (
  SELECT CASE WHEN $12::text <> ''
    THEN pg_try_advisory_xact_lock('pgq_jobs'::regclass::oid::int4, 512 + (hashtext($12::text) & 255)) END AS sweep
  OFFSET 0) AS locked
CROSS JOIN unnest($1::text[], $2::int4[], $5::timestamptz[], $6::int8[], $10::timestamptz[], $11::int8[])
  WITH ORDINALITY AS queue (name, most, floor, floor_id, until, until_id, position)
CROSS JOIN LATERAL (
  SELECT * FROM (
    SELECT tableoid, ctid, xmax, id, attempt, created_at, run_after, retry_waits, lease, deaths, data
    FROM pgq_jobs
    WHERE queue_name = queue.name AND ran_at IS NULL AND run_after <= least(now(), queue.until)
      AND (run_after, id) >= (CASE WHEN locked.sweep THEN '-infinity'::timestamptz ELSE queue.floor END,
        CASE WHEN locked.sweep THEN '-9223372036854775808'::int8 ELSE queue.floor_id END)
      AND deaths >= $7::int4 AND deaths <= $8::int4 AND id <> ALL ($9::int8[])
    ORDER BY run_after, id LIMIT CASE WHEN queue.until_id IS NULL THEN queue.most ELSE 0 END
    FOR UPDATE SKIP LOCKED) AS by_time
  UNION ALL
  SELECT * FROM (
    SELECT tableoid, ctid, xmax, id, attempt, created_at, run_after, retry_waits, lease, deaths, data
    FROM pgq_jobs
    WHERE queue_name = ANY (ARRAY[queue.name]) AND ran_at IS NULL AND run_after <= now() AND run_after = queue.floor
      AND id >= queue.floor_id AND id <= queue.until_id
      AND deaths >= $7::int4 AND deaths <= $8::int4 AND id <> ALL ($9::int8[])
    ORDER BY queue_name, id LIMIT CASE WHEN queue.until_id IS NOT NULL THEN queue.most ELSE 0 END
    FOR UPDATE SKIP LOCKED) AS by_id) AS job
LIMIT $4::int8
