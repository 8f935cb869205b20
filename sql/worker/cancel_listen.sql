-- Listens on the channel on which pgq_cancel (sql/schema/pgq_cancel.sql) notifies that it has cancelled a leased job.
LISTEN pgq_cancel
