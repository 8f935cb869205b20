-- Reserves the next region of a queue for this worker. Returns where it ends, and whether this worker should sweep now:
-- one worker is told so each second. Returns no row if no other worker serves the queue. The region begins at the
-- frontier, or at the worker's own place if the frontier lies before that, and its end becomes the new frontier. Sums
-- stay below the greatest id, and a frontier does not run ahead of the clock.
--
-- $1 int8: id of this worker's row
-- $2 text: name of the queue
-- $3 timestamptz: the own place's run_after
-- $4 int8: the own place's id
-- $5 int8: the length of the region in microseconds of run_after, or 0 for a region of jobs with the same run_after
-- $6 int8: the length of the region in ids, or 0
-- $7 bool: true when the region begins at the own place also if no due job lies behind the frontier
INSERT INTO pgq_frontiers AS frontier (queue_name, run_after, id)
SELECT $2, least($3 + $5::float8 * interval '1 microsecond', now()), least($4, 9223372036854775807 - $6) + $6
WHERE EXISTS (SELECT FROM pgq_workers WHERE id <> $1 AND $2 = ANY (queues))
ON CONFLICT (queue_name) DO UPDATE SET
  (run_after, id) = (
    SELECT least(CASE WHEN own THEN $3 ELSE frontier.run_after END + $5::float8 * interval '1 microsecond', now()),
      least(CASE WHEN own THEN $4 ELSE frontier.id END, 9223372036854775807 - $6) + $6
    FROM (
      SELECT (frontier.run_after, frontier.id) < ($3, $4) OR ($7 AND NOT EXISTS (
        SELECT FROM pgq_jobs
        WHERE queue_name = $2 AND ran_at IS NULL AND run_after <= now()
          AND (run_after, id) >= (frontier.run_after, frontier.id))) AS own) AS choice),
  swept_at = CASE WHEN frontier.swept_at < now() - interval '1 s' THEN now() ELSE frontier.swept_at END
RETURNING run_after, id, swept_at = now()
