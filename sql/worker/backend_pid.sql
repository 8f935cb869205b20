-- Returns the process number of the server process behind this connection. A pooler gives its clients numbers of its
-- own: when the number that libpq was told differs from this one, there is a pooler.
SELECT pg_catalog.pg_backend_pid()
