-- Listens on the channel of the pooler detection.
LISTEN pgq_echo
