-- Returns the peers of this worker: the other workers that serve the same queues and listen to the doorbell. The columns
-- are the id of the peer's row and the process number of the session from which its notifications come.
--
-- $1 int8: id of this worker's row
SELECT peer.id, peer.backend_pid
FROM pgq_workers AS own
JOIN pgq_workers AS peer ON peer.queues OPERATOR(pg_catalog.=) own.queues
WHERE own.id = $1 AND peer.id <> $1 AND peer.backend_pid IS NOT NULL AND peer.missing_since IS NULL
