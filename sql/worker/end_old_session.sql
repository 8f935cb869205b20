-- Ends the session that a connection had before, if the server has not noticed yet that it is lost. Until then that
-- session keeps its locks: those of jobs, or that of the worker's row. Returns the process number of the new session, and
-- when it began, by which the next session will know it; and whether the old session was still there.
--
-- $1 int4: process number of the old session; 0 for none
-- $2 int8: when the old session began, in microseconds as this statement returns it
SELECT new.pid, (extract(epoch FROM new.backend_start)::float8 * 1000000::float8)::int8, (
  SELECT pg_catalog.pg_terminate_backend(old.pid) FROM pg_catalog.pg_stat_get_activity($1::int4) AS old
  WHERE (extract(epoch FROM old.backend_start)::float8 * 1000000::float8)::int8 = $2::int8)
FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS new
