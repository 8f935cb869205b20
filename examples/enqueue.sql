-- Enqueues greetings for hello.lua from SQL, and so from any language.
-- Run:      psql "$(pgq-lua dev conninfo)" -f examples/enqueue.sql

-- The data of a job is bytea: of a text, its bytes.
SELECT pgq_enqueue('hello', convert_to('SQL', 'UTF8'));

-- Not before half a minute has gone by, and two retries.
SELECT pgq_enqueue('hello', convert_to('SQL, later', 'UTF8'), now() + interval '30 seconds', '{5s,1m}');

-- A job for each row of a query. A job is seen once its transaction commits, and never if that rolls back.
BEGIN;
SELECT pgq_enqueue('hello', convert_to(name, 'UTF8')) FROM (VALUES ('Ann'), ('Ben')) AS people (name);
COMMIT;
