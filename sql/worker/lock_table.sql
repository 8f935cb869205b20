-- Waits, before a claim, until the table can be written: CREATE INDEX or LOCK TABLE ... IN SHARE MODE in another session
-- lets FOR UPDATE pass, and would then keep the outcomes of the claimed jobs from being written. From now until the end of
-- the transaction no such session gets its lock.
--
-- prepared: yes
LOCK TABLE pgq_jobs IN ROW EXCLUSIVE MODE
