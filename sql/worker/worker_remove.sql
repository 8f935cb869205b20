-- Deletes the row of this worker when it stops.
--
-- $1 int8: id of the worker's row
DELETE FROM pgq_workers WHERE id = $1
