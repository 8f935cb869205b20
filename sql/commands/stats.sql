-- Returns the numbers of the last minutes, the last minute first: one row for each minute and queue.
--
-- $1 text: name of the queue, or null for all
-- $2 timestamptz: minutes that ended after this time
-- $3 timestamptz: minutes before this time, or null
-- $4 int8: the greatest number of rows
SELECT minute, completed, failed, retried, snoozed, cancelled, wait_ms, run_ms, wait_buckets, run_buckets
FROM pgq_stats
WHERE ($1::text IS NULL OR queue_name = $1::text) AND minute > $2::timestamptz - interval '1 minute'
  AND ($3::timestamptz IS NULL OR minute < $3::timestamptz)
ORDER BY minute DESC LIMIT $4::int8
