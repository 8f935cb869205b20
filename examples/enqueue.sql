-- Enqueues greetings for hello.lua from SQL, and so from any language.
-- Run:      psql "$(pgq-lua dev conninfo)" -f examples/enqueue.sql

-- The data of a job is a bytea: convert_to() makes bytes of a text.
SELECT pgq_enqueue('hello', convert_to('SQL', 'UTF8'));

-- The job does not run before 30 seconds have passed, and has two retries.
SELECT pgq_enqueue('hello', convert_to('SQL, later', 'UTF8'), now() + interval '30 seconds', '{5s,1m}');

-- A job for each row of a query. Workers see the jobs when the transaction commits, and never if it rolls back.
BEGIN;
SELECT pgq_enqueue('hello', convert_to(name, 'UTF8')) FROM (VALUES ('Ann'), ('Ben')) AS people (name);
COMMIT;
