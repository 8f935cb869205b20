-- What operators have said about queues, and what workers do not decide alone. A queue needs no row here: only a queue
-- that was paused has one.
CREATE TABLE IF NOT EXISTS pgq_queues (
  queue_name text PRIMARY KEY,
  paused_at timestamptz,
  paused_until timestamptz,
  paused_by text,
  pause_reason text,
  resumed_at timestamptz,
  CONSTRAINT pgq_queues_paused_check CHECK ((paused_until IS NULL) = (paused_at IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

COMMENT ON TABLE pgq_queues IS 'Queues that were paused or resumed, one row for each queue. A queue without a row is not paused.';
COMMENT ON COLUMN pgq_queues.queue_name IS 'Name of the queue.';
COMMENT ON COLUMN pgq_queues.paused_at IS 'When the queue was paused. Null for a queue that is not paused.';
COMMENT ON COLUMN pgq_queues.paused_until IS 'Until when no worker claims jobs of the queue; infinity: until it is resumed. Null, or in the past, for a queue that is not paused.';
COMMENT ON COLUMN pgq_queues.paused_by IS 'The role that paused the queue.';
COMMENT ON COLUMN pgq_queues.pause_reason IS 'The reason that this role gave.';
COMMENT ON COLUMN pgq_queues.resumed_at IS 'When the queue was last resumed. Workers that back off since before then claim jobs of the queue again.';
