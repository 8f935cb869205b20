-- Writes which queues this worker serves, after its script was reloaded.
--
-- $1 int8: id of the worker's row
-- $2 text[]: names of the worker's queues
UPDATE pgq_workers SET queues = $2 WHERE id = $1 AND queues OPERATOR(pg_catalog.<>) $2
