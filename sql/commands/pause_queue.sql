-- Pauses a queue. Returns until when, as a text, and whether any worker has registered the queue.
--
-- $1 text: name of the queue
-- $2 interval: how long the pause lasts; null: until the queue is resumed
-- $3 text: the reason, or null
SELECT pause.until::text, pgq_pause($1::text, pause.until, $3::text),
  EXISTS (SELECT FROM pgq_workers WHERE $1::text = ANY (queues))
FROM (SELECT coalesce(clock_timestamp() + $2::interval, 'infinity') AS until) AS pause
