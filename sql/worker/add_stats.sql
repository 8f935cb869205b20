-- Adds this worker's numbers of the last seconds to pgq_stats, one row for each queue, in the current minute. Rows are
-- written in the order of their names, so that workers do not wait for each other in a circle.
--
-- $1 text[]: names of the queues
-- $2 int8[]: for each queue, how many jobs were completed
-- $3 int8[]: for each queue, how many attempts failed and are followed by another
-- $4 int8[]: for each queue, how many jobs failed for good
-- $5 int8[]: for each queue, how many attempts were snoozed
-- $6 int8[]: for each queue, how many attempts were cancelled
-- $7 int8[]: for each queue, the sum of the microseconds that jobs waited
-- $8 int8[]: for each queue, the sum of the microseconds that handlers ran
-- $9 int8[]: for each queue, 32 buckets of the histogram of waits
-- $10 int8[]: for each queue, 32 buckets of the histogram of the handlers' times
-- $11 int4[]: for each queue, how many of the buckets are used: the rest is zero
INSERT INTO pgq_stats AS total (queue_name, minute, completed, retried, failed, snoozed, cancelled, wait_ms, run_ms,
  wait_buckets, run_buckets)
SELECT name, date_trunc('minute'::text, statement_timestamp()), completed, retried, failed, snoozed, cancelled,
  wait_us::float8 / 1000::float8, run_us::float8 / 1000::float8,
  ($9::int8[])[(place::int4 - 1) * 32 + 1:(place::int4 - 1) * 32 + used],
  ($10::int8[])[(place::int4 - 1) * 32 + 1:(place::int4 - 1) * 32 + used]
FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
  $11::int4[])
  WITH ORDINALITY AS share (name, completed, retried, failed, snoozed, cancelled, wait_us, run_us, used, place)
ORDER BY name
ON CONFLICT (queue_name, minute) DO UPDATE
SET completed = total.completed + excluded.completed, retried = total.retried + excluded.retried,
  failed = total.failed + excluded.failed, snoozed = total.snoozed + excluded.snoozed,
  cancelled = total.cancelled + excluded.cancelled,
  wait_ms = total.wait_ms + excluded.wait_ms, run_ms = total.run_ms + excluded.run_ms,
  wait_buckets = ARRAY(SELECT COALESCE(old, 0::int8) + COALESCE(new, 0::int8)
    FROM unnest(total.wait_buckets, excluded.wait_buckets) WITH ORDINALITY AS bucket (old, new, place) ORDER BY place),
  run_buckets = ARRAY(SELECT COALESCE(old, 0::int8) + COALESCE(new, 0::int8)
    FROM unnest(total.run_buckets, excluded.run_buckets) WITH ORDINALITY AS bucket (old, new, place) ORDER BY place)
