-- Notifies on the channel of the pooler detection.
--
-- $1 text: the payload
SELECT pg_notify('pgq_echo', $1)
