-- Rolls back the transaction of a hold. This also unlocks its claimed jobs.
--
-- prepared: yes
ROLLBACK
