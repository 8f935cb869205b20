-- Returns the ids of those leased jobs that were cancelled: their rows have ended with an error, and have no lease any
-- more. A notification from any role only makes the worker ask this.
--
-- $1 int8[]: ids of the jobs that were notified
SELECT id FROM pgq_jobs
WHERE id = ANY ($1::int8[]) AND ran_at IS NOT NULL AND lease IS NULL AND error IS NOT NULL
