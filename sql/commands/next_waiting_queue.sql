-- Returns the next queue that has jobs which have not ended, in the order of names.
--
-- $1 text: the queue before it; null: none
SELECT queue_name FROM pgq_jobs
WHERE ran_at IS NULL AND ($1::text IS NULL OR queue_name > $1::text)
ORDER BY queue_name LIMIT 1
