-- Writes down what a command does. Returns the id of the row.
--
-- $1 text: the command
-- $2 text: the selection, or null
-- $3 int8[]: the ids of the jobs, or null
-- $4 int8: how many jobs it has changed
-- $5 text: what else there is to say, or null
INSERT INTO pgq_audit (verb, selection, ids, count, detail) VALUES ($1, $2, $3, $4, $5) RETURNING id
