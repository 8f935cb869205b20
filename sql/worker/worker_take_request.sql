-- Takes what an operator asks of this worker: returns it, and sets it to null. Returns no row if nothing is asked.
-- Several requests are words in the order in which they came.
--
-- $1 int8: id of the worker's row
WITH asked AS (
  SELECT id, request FROM pgq_workers WHERE id = $1 AND request IS NOT NULL FOR UPDATE)
UPDATE pgq_workers AS worker SET request = NULL FROM asked WHERE worker.id = asked.id
RETURNING asked.request
