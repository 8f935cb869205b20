-- Ends echo_listen.sql.
UNLISTEN pgq_echo
