-- Resumes a queue. Returns what pgq_resume says, and whether any worker has registered the queue.
--
-- $1 text: name of the queue
SELECT pgq_resume($1::text), EXISTS (SELECT FROM pgq_workers WHERE $1::text = ANY (queues))
