-- Inserts the row of this worker, and returns its id. While the worker lives, its control session has an advisory lock
-- on the id. The lock is taken before the row can be seen by others. A session that a pooler shares takes no lock: the
-- lock would remain with the session, which may serve another client next; then null is returned instead of whether
-- the lock was taken. Returns also what time it is.
--
-- $1 text: name of the machine
-- $2 int4: process number of the supervisor
-- $3 text: version of pgq-lua
-- $4 text[]: names of the worker's queues
-- $5 bool: true when a pooler shares the session among its clients
INSERT INTO pgq_workers (host, pid, version, queues, pooled, backend_pid)
VALUES ($1, $2, $3, $4, $5, CASE WHEN NOT $5::bool THEN pg_backend_pid() END)
RETURNING id,
  CASE WHEN NOT pooled THEN pg_try_advisory_lock('pgq_workers'::regclass::oid::int4, (id & 2147483647::int8)::int4) END,
  statement_timestamp()
