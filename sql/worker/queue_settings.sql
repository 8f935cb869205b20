-- Returns what operators have said about queues: which are paused, and which were resumed. The columns are those of enum
-- queue_settings_column in statements.h. Most queues have no row.
--
-- $1 text[]: names of the queues
SELECT queue.position,
  CASE WHEN paused_until = 'infinity' THEN 9223372036854775807
    WHEN paused_until > clock_timestamp()
      THEN ceil(extract(epoch FROM paused_until - clock_timestamp())::float8 * 1000::float8)::int8 END,
  resumed_at, paused_until::text, paused_by, pause_reason
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS queue (name, position)
JOIN pgq_queues ON queue_name = queue.name
