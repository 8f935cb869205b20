-- Deletes completed jobs by the place of their rows. A locked row does not move, and this takes a third of the time
-- that the primary key would take. It is valid only in the transaction that has claimed the jobs, and only
-- for this table: a table that inherits from it has places of its own.
--
-- $1 tid[]: places (ctid) of the jobs' rows
-- prepared: yes
DELETE FROM ONLY pgq_jobs WHERE ctid = ANY ($1::tid[])
