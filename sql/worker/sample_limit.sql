-- Limits how long each following statement of the transaction may take.
--
-- $1 text: the limit in milliseconds
SELECT pg_catalog.set_config('statement_timeout'::text, $1::text, true)
