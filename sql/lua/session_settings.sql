-- Makes the settings of a session that scripts use. The first ones let the server notice that the client is gone, even
-- if nobody has told it, so that its locks do not stay: within a second if the process was killed, within 25 s if the
-- machine or the network is gone. There is no tcp_user_timeout, because a handler that computes for long does not read.
-- The others are settings of roles and databases that break queries: an idle connection is not to be ended; lists with
-- NULL are sent as text; numbers are read from text. Settings that the server does not know are left out.
--
-- $1 int4: number of the server's process as the client knows it. With another number there is a pooler in between,
-- which may give the session to others: nothing is set. Null: the session is the client's in any case
-- $2 bool: whether to set client_connection_check_interval, which some platforms refuse
SELECT pg_catalog.set_config(name, value, false)
FROM (VALUES
  ('client_connection_check_interval', '1s'),
  ('tcp_keepalives_idle', '10'),
  ('tcp_keepalives_interval', '5'),
  ('tcp_keepalives_count', '3'),
  ('idle_session_timeout', '0'),
  ('array_nulls', 'on'),
  ('extra_float_digits', '1')) AS settings (name, value)
WHERE ($1::int4 IS NULL OR pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) $1::int4)
  AND ($2::bool OR name OPERATOR(pg_catalog.<>) 'client_connection_check_interval')
  AND pg_catalog.current_setting(name, true) IS NOT NULL
