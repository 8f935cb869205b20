-- Commits the transaction of a hold. This also unlocks the claimed jobs that no statement has written.
--
-- prepared: yes
COMMIT
