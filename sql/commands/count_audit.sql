-- Writes down that a command has changed more jobs. Returns the id of the row.
--
-- $1 int8: id of the command's row
-- $2 int8: how many jobs it has changed so far
UPDATE pgq_audit SET count = $2 WHERE id = $1 RETURNING id
