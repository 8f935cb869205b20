-- Listens on the doorbell's channel, on which pgq_ring (sql/schema/pgq_ring.sql) notifies.
LISTEN pgq_bell
