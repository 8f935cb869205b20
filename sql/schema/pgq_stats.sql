-- What became of jobs, by queue and minute. Each worker adds its share every ten seconds, so a row is updated often:
-- half of each page is free.
CREATE TABLE IF NOT EXISTS pgq_stats (
  queue_name text NOT NULL,
  minute timestamptz NOT NULL,
  completed bigint NOT NULL DEFAULT 0,
  retried bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  snoozed bigint NOT NULL DEFAULT 0,
  cancelled bigint NOT NULL DEFAULT 0,
  wait_ms double precision NOT NULL DEFAULT 0,
  run_ms double precision NOT NULL DEFAULT 0,
  wait_buckets bigint[] NOT NULL DEFAULT '{}',
  run_buckets bigint[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (queue_name, minute)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);
CREATE INDEX IF NOT EXISTS pgq_stats_minute ON pgq_stats (minute);

COMMENT ON TABLE pgq_stats IS 'How many jobs ended, and how long they took, by queue and minute. Workers add to it every ten seconds. Rows are kept for 14 days.';
COMMENT ON COLUMN pgq_stats.queue_name IS 'Name of the queue.';
COMMENT ON COLUMN pgq_stats.minute IS 'The begin of the minute in which workers added the numbers, up to ten seconds after the attempts ended.';
COMMENT ON COLUMN pgq_stats.completed IS 'Number of jobs that were completed.';
COMMENT ON COLUMN pgq_stats.retried IS 'Number of attempts that failed and are followed by another one.';
COMMENT ON COLUMN pgq_stats.failed IS 'Number of jobs that failed for good.';
COMMENT ON COLUMN pgq_stats.snoozed IS 'Number of attempts that were snoozed.';
COMMENT ON COLUMN pgq_stats.cancelled IS 'Number of attempts whose job was cancelled while they ran. The times do not count them.';
COMMENT ON COLUMN pgq_stats.wait_ms IS 'Sum of the milliseconds from the moment when a job was due until its handler began.';
COMMENT ON COLUMN pgq_stats.run_ms IS 'Sum of the milliseconds that the handlers took.';
COMMENT ON COLUMN pgq_stats.wait_buckets IS 'Histogram of the waits: element n counts waits of less than 2^(n-1) milliseconds that no earlier element counts; the last one counts the rest.';
COMMENT ON COLUMN pgq_stats.run_buckets IS 'Histogram of the handlers'' times, with the same buckets.';
COMMENT ON INDEX pgq_stats_minute IS 'For deleting old minutes.';
