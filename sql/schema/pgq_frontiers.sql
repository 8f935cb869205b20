-- The frontiers. While several workers share a busy queue, each takes a part of it at a time, a region, and claims there;
-- the frontier is where the next region begins. The table is unlogged, because its rows are hints: a worker that does
-- not find one claims without it.
CREATE UNLOGGED TABLE IF NOT EXISTS pgq_frontiers (
  queue_name text PRIMARY KEY,
  run_after timestamptz NOT NULL,
  id bigint NOT NULL,
  swept_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE pgq_frontiers IS 'For each busy queue that several workers share, the place in the order of claims from which no worker has claimed yet. Rows may be deleted at any time.';
COMMENT ON COLUMN pgq_frontiers.queue_name IS 'Name of the queue.';
COMMENT ON COLUMN pgq_frontiers.run_after IS 'The run_after of the place.';
COMMENT ON COLUMN pgq_frontiers.id IS 'The id of the place, among jobs with the same run_after.';
COMMENT ON COLUMN pgq_frontiers.swept_at IS 'When a worker last got the order to look for jobs before its region.';
